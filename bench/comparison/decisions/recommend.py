"""The recommended row under limits: the most accurate one or, with a margin, the fastest that is nearly as accurate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.comparison.analysis import Comparison
from bench.comparison.decisions.limits import Limit, LimitResult, Limits, chosen, latency_on, meets, usable
from bench.comparison.latencies.figures import Latency
from bench.comparison.latencies.speeds import same_network
from bench.comparison.measures import Estimate, of_interval, of_score
from bench.comparison.rows import ComparedRow, Row
from bench.records.paths import Paths
from bench.stats.pairs import ALPHA
from bench.stats.power import Power
from bench.stats.ranks import ToBest, bounds_to_best, images_for_margin
from imgcls.inference.runtimes import RUNTIMES


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A row as it is compared with the recommended one; ``gap`` is its accuracy minus that of the recommended row.

    ``gap`` is None of the recommended row itself. ``bound`` is against the best row within the limits, and ``needed``
    the number of test images that would show that it is within the margin, None if its accuracy is not.
    """

    name: str
    top1: Estimate
    latency: Latency
    gap: Estimate | None = None
    holm: float = 1.0
    bound: ToBest | None = None
    needed: int | None = None

    @property
    def significant(self) -> bool:
        """Whether its accuracy differs significantly from that of the recommended row."""
        return self.holm <= ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class MetLimit:
    """A limit that the recommended row meets, and the row that would be recommended without it, if another one."""

    limit: Limit
    result: LimitResult
    without: Candidate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactFile:
    """The file to ship: of the seed that was the best on val of ``usable`` seeds."""

    path: Path
    seed: int
    usable: int
    seeds: int
    folds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Recommendation:
    """The row to ship, of ``fitting`` rows within the limits; None if no row meets all of them.

    ``weak``: it is not significantly better than the majority-class baseline, and must not be shipped. With a margin,
    ``within`` is whether a row is shown to be within it. ``same`` are rows with the same network, and ``excluded`` the
    rows that fail each limit, if no row meets all. ``machines`` are other machines that have measured latency.
    """

    limits: Limits
    row: Candidate | None
    fitting: int
    weak: bool = False
    within: bool = False
    faster: tuple[Candidate, ...] = ()
    same: tuple[str, ...] = ()
    met: tuple[MetLimit, ...] = ()
    excluded: tuple[tuple[Limit, tuple[tuple[str, LimitResult], ...]], ...] = ()
    artifact: ArtifactFile | None = None
    not_compared: tuple[str, ...]
    power: Power | None
    majority: tuple[str, float]
    measured_on: str
    machines: tuple[str, ...]
    names_machine: bool


def recommend(comparison: Comparison, limits: Limits, results: Path) -> Recommendation:
    """Return the recommendation; ``results`` is the folder of the artifacts."""
    table, majority = comparison.table, comparison.table.majority
    others = tuple(machine for machine in table.machines if machine != table.measured_on)
    common = Recommendation(
        limits=limits,
        row=None,
        fitting=0,
        not_compared=tuple(row.name for row in comparison.not_compared),
        power=comparison.power,
        majority=(majority.class_name, majority.top1_accuracy),
        measured_on=table.measured_on,
        machines=others,
        names_machine=bool(others) or table.measured_on != table.key.machine,
    )
    # Each row is judged by each limit once: the choice is made again without every single one of them.
    judged = {
        limit: {row.row_id: meets(row, limit, comparison, limits) for row in comparison.compared}
        for limit in limits.limits
    }
    choice = _choice(comparison, limits, list(judged.values()))
    if choice is None:
        return replace(common, excluded=_excluded(comparison, judged))
    best, fitting = choice.row, choice.fitting
    faster = sorted(
        (row for row in fitting if _median(row, limits.runtime) < _median(best, limits.runtime)),
        key=lambda row: _median(row, limits.runtime),
    )
    if limits.margin is not None:
        # A row may have the lower median, and be within the margin, but not be the fastest by p90, which decides.
        faster = [row for row in faster if choice.bounds[row.row_id].low <= -limits.margin]
    return replace(
        common,
        row=_candidate(best, best, comparison, limits, choice.bounds),
        fitting=len(fitting),
        weak=any(row.row_id == best.row_id for row in comparison.no_better_than_majority),
        within=choice.within,
        faster=tuple(_candidate(row, best, comparison, limits, choice.bounds) for row in faster),
        same=tuple(row.name for row in fitting if row.row_id != best.row_id and same_network(row, best)),
        met=tuple(_met(limit, best, comparison, limits, judged) for limit in limits.limits),
        artifact=_artifact(best, limits.runtime, results),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """The rows within the limits, the most accurate first, and the one to ship.

    ``bounds`` are those of each row against the best of them, whichever that is, by row id; empty without a margin.
    ``within`` is whether ``row`` is shown to be within the margin; False without a margin.
    """

    fitting: Sequence[ComparedRow]
    bounds: Mapping[str, ToBest]
    row: ComparedRow
    within: bool


Results = Mapping[Limit, Mapping[str, LimitResult]]
"""How each compared row meets each limit, by row id."""


def _choice(comparison: Comparison, limits: Limits, kept: Sequence[Mapping[str, LimitResult]]) -> _Choice | None:
    """Return the most accurate row within the limits or, with a margin, the fastest whose bound lies within it.

    If no row is shown to be within the margin, it is the most accurate one too. None if no row meets all limits.
    """
    fitting = [row for row in comparison.compared if all(results[row.row_id].fits for results in kept)]
    if not fitting:
        return None
    if limits.margin is None:
        return _Choice(fitting=fitting, bounds={}, row=fitting[0], within=False)
    to_best = bounds_to_best([row.right for row in fitting], comparison.groups)
    bounds = {row.row_id: bound for row, bound in zip(fitting, to_best, strict=True)}
    near = [
        (p90.value, index)
        for index, row in enumerate(fitting)
        if bounds[row.row_id].low > -limits.margin and (p90 := latency_on(row, limits.runtime).p90) is not None
    ]
    row = fitting[min(near)[1]] if near else fitting[0]
    return _Choice(fitting=fitting, bounds=bounds, row=row, within=bool(near))


def _candidate(
    row: ComparedRow, best: ComparedRow, comparison: Comparison, limits: Limits, bounds: Mapping[str, ToBest]
) -> Candidate:
    candidate = Candidate(
        name=row.name,
        top1=of_score(comparison.accuracy(row)),
        latency=latency_on(row, limits.runtime),
        bound=bounds.get(row.row_id),
    )
    if limits.margin is not None and candidate.bound is not None:
        candidate = replace(candidate, needed=images_for_margin(candidate.bound, limits.margin, comparison.number))
    if row.row_id == best.row_id:
        return candidate
    paired = comparison.pair(row, best)
    gap = of_interval(paired.difference, paired.interval, "simultaneous")
    return replace(candidate, gap=gap, holm=comparison.adjusted(row, best))


def _met(limit: Limit, best: ComparedRow, comparison: Comparison, limits: Limits, results: Results) -> MetLimit:
    """Return the limit as the best row meets it, and what it costs, as a limit may be stricter than needed."""
    choice = _choice(comparison, limits, [results[other] for other in results if other != limit])
    without = None
    if choice is not None and choice.row.row_id != best.row_id:
        without = _candidate(choice.row, best, comparison, limits, choice.bounds)
    return MetLimit(limit=limit, result=results[limit][best.row_id], without=without)


def _excluded(
    comparison: Comparison, results: Results
) -> tuple[tuple[Limit, tuple[tuple[str, LimitResult], ...]], ...]:
    """Return the rows that fail each limit, with their names."""
    names = {row.row_id: row.name for row in comparison.compared}
    failed = {
        limit: tuple((names[row_id], result) for row_id, result in rows.items() if not result.fits)
        for limit, rows in results.items()
    }
    return tuple((limit, rows) for limit, rows in failed.items() if rows)


def _median(row: Row, runtime: str) -> float:
    """Return a row's median latency in ms on a runtime; infinite if it was not measured."""
    median = latency_on(row, runtime).p50
    return float("inf") if median is None else median.value


def _artifact(row: Row, runtime: str, results: Path) -> ArtifactFile:
    # Of several seeds, the best on val: choosing by test would make the stated accuracy optimistic.
    checkpoint, _ = chosen(row, runtime)
    return ArtifactFile(
        path=Paths(results=results).artifacts(checkpoint.records[0].train_id) / RUNTIMES[runtime].file,
        seed=checkpoint.seed,
        usable=len(usable(row, runtime)),
        seeds=len(row.checkpoints),
        folds=len(checkpoint.records),
    )
