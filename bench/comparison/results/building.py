"""The results of a table, computed once from its comparison."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from bench.comparison.analysis import Comparison
from bench.comparison.costs import TARGETS, cost_to_accuracy
from bench.comparison.latencies.figures import latency_of
from bench.comparison.latencies.lines import latency_lines
from bench.comparison.latencies.speeds import ratio, reference_runtime, runtimes_of, same_network, shown
from bench.comparison.measures import Estimate, of_interval, of_score
from bench.comparison.results.checkpoints import checkpoint_result
from bench.comparison.results.conditions import conditions_of, tuned_runs
from bench.comparison.results.imbalance import effects
from bench.comparison.results.values import (
    Effect,
    Failure,
    MachineResult,
    MajorityResult,
    PairResult,
    RowResult,
    SeedSpread,
    Speed,
    TableResult,
)
from bench.comparison.rows import Row
from bench.comparison.scores import minority_classes, most_confused, recalls
from bench.comparison.settings import family_of, kind_of, weights_part
from bench.comparison.tables import members_of
from bench.records.measurements import Measurement
from bench.records.schema import UNGROUPED
from bench.runs import failures
from bench.stats.groups import LEAST_FREEDOM
from bench.stats.intervals import percentile
from bench.stats.pairs import ALPHA
from bench.stats.power import Sources, sources_of
from imgcls.models.operators import COUNTING

PAIRS_SHOWN: Final = 45
"""All pairs of ten rows, with intervals in the leaderboard; of more rows, the pairs of the most accurate ones."""

MOST_DIVERSE: Final = 10
"""Rows whose diversity is shown, the most accurate first."""

PAIR: Final = 2


def table_result(comparison: Comparison, *, all_intervals: bool = False) -> TableResult:
    """Return the results of a table.

    With ``all_intervals`` every pair has an interval; without, those of the leaderboard: the first pairs, and those of
    the most accurate row.
    """
    table, first = comparison.table, comparison.table.first
    names = first.dataset.class_names
    best = next((row for row in comparison.ordered if row.checkpoints), None)
    of_technique = effects(comparison)
    majority, machines = table.majority, tuple(_machine(machine, comparison) for machine in table.machines)
    return TableResult(
        id=table.key.id,
        key=table.key,
        run_ids=tuple(record.run_id for record in table.records),
        images=comparison.number,
        groups=comparison.independent,
        class_names=names,
        test_counts=tuple(table.test_counts),
        minority_classes=tuple(names[label] for label in minority_classes(table)),
        minority_images=None if comparison.minority is None else comparison.minority[1:],
        rows=tuple(_row(row, comparison, machines, of_technique.get(row.row_id)) for row in comparison.ordered),
        pairs=_pairs(comparison, all_intervals=all_intervals),
        power=comparison.power,
        about_models=comparison.about_models,
        majority=MajorityResult(
            class_name=majority.class_name, accuracy=of_score(comparison.majority), macro_f1=majority.macro_f1
        ),
        leaks=comparison.leaks,
        grouped_by=None if first.dataset.grouped_by == UNGROUPED else first.dataset.grouped_by,
        near_duplicates_kept=first.config.split.near_duplicates == "keep",
        seed_spread=_seed_spread(comparison),
        sources=_sources(comparison),
        speed=_speed(comparison),
        folds=table.folds,
        measured_on=table.measured_on,
        machines=machines,
        fronts=tuple(comparison.fronts),
        checkpoints=tuple(
            checkpoint_result(row, checkpoint, comparison) for row, checkpoint in comparison.shown_checkpoints
        ),
        num_checkpoints=sum(len(row.checkpoints) for row in table.rows),
        confusions=() if best is None else tuple(most_confused(best)),
        latency=latency_lines(comparison.ordered, table.sessions),
        conditions=conditions_of(table),
        tuned=tuned_runs(table),
        selections=tuple({race.name: race for record in table.records if (race := record.selection)}.values()),
    )


def _row(row: Row, comparison: Comparison, machines: Sequence[MachineResult], effect: Effect | None) -> RowResult:
    scored, model = bool(row.checkpoints), row.outcome.model if row.checkpoints else None
    errors = [
        (record.config.seed, failures.last_line(record.error or "")) for record in row.records if not record.outcome
    ]
    return RowResult(
        id=row.row_id,
        name=row.name,
        model=row.first.config.model,
        family=family_of(row.first.config.model),
        setting=row.setting,
        kind=kind_of(row.first),
        init=row.init,
        imbalance=row.first.base.train.imbalance,
        networks=tuple(network.id for network in row.networks),
        rank=comparison.ranks.get(row.row_id),
        probability_best=comparison.best.get(row.row_id),
        weak=any(row.row_id == other.row_id for other in comparison.no_better_than_majority),
        seeds=tuple(checkpoint.seed for checkpoint in row.checkpoints),
        accuracies=tuple(checkpoint.accuracy for checkpoint in row.checkpoints),
        measures=dict(comparison.measures.get(row.row_id, {})),
        latencies=tuple(
            latency_of(replace(row, measured_on=machine.name), runtime, comparison.table.sessions)
            for machine in machines
            for runtime in machine.runtimes
            if scored
        ),
        recalls=tuple(None if score is None else of_score(score) for score in recalls(row)) if scored else (),
        # An ensemble has no epochs.
        to_accuracy=tuple(cost_to_accuracy(row, target) for target in TARGETS if scored and row.first.ensemble is None),
        effect=effect,
        uncounted=() if model is None else tuple(model.uncounted_products),
        counted_before=model is not None and model.counting < COUNTING,
        derived_from=_origin(row, comparison.table.rows),
        weights_part=weights_part(row.first) if scored else None,
        failure=Failure(incomplete=row.incomplete, errors=tuple(errors)),
    )


def _origin(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the ids of the rows that a row derives from: an ensemble's members, else the model's default setting."""
    if row.first.ensemble is not None:
        return tuple(member.row_id for member in members_of(row, rows))
    if kind_of(row.first) == "default":
        return ()
    same = [other for other in rows if other.first.config.model == row.first.config.model and other.init == row.init]
    return tuple(other.row_id for other in same if kind_of(other.first) == "default")[:1]


def _machine(machine: str, comparison: Comparison) -> MachineResult:
    rows = [replace(row, measured_on=machine) for row in comparison.ordered]
    return MachineResult(name=machine, runtimes=tuple(runtimes_of(rows)), reference=reference_runtime(rows))


def _pairs(comparison: Comparison, *, all_intervals: bool) -> tuple[PairResult, ...]:
    """Return all pairs of compared rows, those of the most accurate rows first, which decide what to ship."""
    rows, ensemble = comparison.compared, any(row.first.ensemble for row in comparison.compared)
    diverse = [row.row_id for row in rows if row.first.ensemble is None][: MOST_DIVERSE if ensemble else 0]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    results = []
    for number, (i, j) in enumerate(pairs):
        pair = _pair(comparison, i, j, interval=all_intervals or number < PAIRS_SHOWN or i == 0)
        if rows[i].row_id in diverse and rows[j].row_id in diverse:
            disagreement, fault = _diversity(rows[i], rows[j])
            pair = replace(pair, disagreement=disagreement, double_fault=fault)
        results.append(pair)
    return tuple(results)


def _pair(comparison: Comparison, i: int, j: int, *, interval: bool) -> PairResult:
    rows, tests, losses, minority = comparison.compared, comparison.pairwise, comparison.losses, comparison.minority
    difference = Estimate(float(tests.differences[i, j]))
    if interval:
        paired = comparison.pair(rows[i], rows[j])
        difference = of_interval(paired.difference, paired.interval, "simultaneous")
    return PairResult(
        first=rows[i].row_id,
        second=rows[j].row_id,
        difference=difference,
        p_value=float(tests.p_values[i, j]),
        holm=float(tests.holm[i, j]),
        loss=None
        if losses is None
        else Estimate(
            float(losses.differences[i, j]), float(losses.low[i, j]), float(losses.high[i, j]), "simultaneous"
        ),
        loss_holm=None if losses is None else float(losses.holm[i, j]),
        minority=None if minority is None else float(minority[0].differences[i, j]),
        minority_holm=None if minority is None else float(minority[0].holm[i, j]),
    )


def _diversity(first: Row, second: Row) -> tuple[float | None, float | None]:
    """Return the shares of images on which one of two rows is right, and both are wrong; None without a common seed."""
    others = {checkpoint.seed: checkpoint.predictions for checkpoint in second.checkpoints}
    pairs = [(checkpoint.predictions, others.get(checkpoint.seed)) for checkpoint in first.checkpoints]
    both = [(own.right, other.right) for own, other in pairs if own is not None and other is not None]
    if not both:
        return None, None
    disagreement = np.mean([right != other for right, other in both])
    return float(disagreement), float(np.mean([~right & ~other for right, other in both]))


def _seed_spread(comparison: Comparison) -> SeedSpread | None:
    component = comparison.seeds
    if component is None:
        return None
    missing = max(LEAST_FREEDOM - component.observed, 0)
    return SeedSpread(variance=component.variance, freedom=component.observed, missing=missing)


def _sources(comparison: Comparison) -> Sources | None:
    """Return where the uncertainty between the two most accurate rows comes from, if both have several seeds."""
    if len(comparison.compared) < PAIR:
        return None
    first, second = comparison.compared[:PAIR]
    return sources_of(first.right, second.right, comparison.groups)


def _speed(comparison: Comparison) -> Speed | None:
    """Compare the most accurate row with the fastest of those without a significant difference, or of all.

    Rows with its network have its latency, and are omitted.
    """
    runtime = reference_runtime(comparison.table.rows)
    if runtime is None or len(comparison.compared) < PAIR:
        return None
    # Readers choose between the best row and cheaper ones that may be as good: the fastest of these is compared.
    top, *others = comparison.compared
    others = [row for row in others if not same_network(top, row)]
    level = [row for row in others if comparison.adjusted(top, row) > ALPHA] or others
    timed = [(row, figure[1]) for row in level if (figure := shown(row, runtime)) is not None]
    own = shown(top, runtime)
    if own is None or not timed:
        return None
    other = min(timed, key=lambda entry: _median(entry[1]))
    fast, slow = ((top, own[1]), other) if _median(own[1]) <= _median(other[1]) else (other, (top, own[1]))
    # Latencies with different numbers of threads do not compare the models.
    if fast[1].num_threads != slow[1].num_threads:
        return None
    within = ratio(slow[1], fast[1])
    if within is not None and within.interval.high < 1:  # ratios within rounds take precedence over the medians
        fast, slow, within = slow, fast, ratio(fast[1], slow[1])
    return Speed(
        fast=fast[0].row_id,
        slow=slow[0].row_id,
        runtime=runtime,
        ratio=None if within is None else of_interval(within.value, within.interval),
        medians_ms=(_median(fast[1]), _median(slow[1])),
        quick=any(entry[1].protocol == "quick" for entry in (fast, slow)),
    )


def _median(measurement: Measurement) -> float:
    return percentile(measurement.samples_ms, 50)
