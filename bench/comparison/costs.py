"""Costs of rows: Pareto fronts of accuracy against cost, and the cost of training to an accuracy on val."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.comparison.latencies.sessions import interval_over_rounds, over_rounds
from bench.comparison.latencies.speeds import reference_runtime, runtime_text, shown
from bench.comparison.measures import MEASURES, Estimate, of_interval
from bench.comparison.rows import ComparedRow, Row
from bench.comparison.tables import Table
from bench.records.schema import RunRecord
from bench.stats.groups import Groups
from bench.stats.intervals import percentile
from bench.stats.resampling import front_probability, resampled_accuracies

P90: Final = 90

LATENCY: Final = "latency"
"""Key of the front whose cost is the latency on the reference runtime."""

Drawn = NDArray[np.float64]
"""Values of a cost over rounds or seeds, which are resampled; a single one counts as exact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontPoint:
    """A cost of a row, and its bootstrap probability of being on the Pareto front of accuracy and that cost."""

    cost: Estimate
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """A cost, the title of its column, and the points of the rows that have it, by row id."""

    key: str
    title: str
    points: Mapping[str, FrontPoint]


def fronts(
    compared: Sequence[ComparedRow], measured: Mapping[str, Mapping[str, Estimate]], table: Table, groups: Groups | None
) -> list[Front]:
    """Return a front for every cost that at least one of the compared rows has.

    ``measured`` are the measures of each row, by row id; ``groups`` ``[N]`` is the group of each test image, None if
    all are independent.
    """
    if not compared:
        return []
    runtime = reference_runtime(table.rows)
    right = np.stack([row.right.mean(axis=0) for row in compared])
    # One set of resamples for all costs, so that the probabilities of the fronts are comparable.
    accuracies = resampled_accuracies(right, groups)
    costs = (
        {}
        if runtime is None
        else {LATENCY: (f"p90 latency, ms ({runtime_text(runtime, table)})", _latencies(compared, runtime))}
    )
    for measure in MEASURES.values():
        if measure.front:
            own = {row.row_id: (row, measured[row.row_id].get(measure.key)) for row in compared}
            costs[measure.key] = (
                measure.front,
                {
                    row_id: (
                        measure.shown(cost),
                        np.array([cost.value] if measure.of_seeds is None else measure.of_seeds(row)),
                    )
                    for row_id, (row, cost) in own.items()
                    if cost is not None
                },
            )
    return [_front(key, title, drawn, compared, accuracies) for key, (title, drawn) in costs.items() if drawn]


def _front(
    key: str, title: str, costs: Mapping[str, tuple[Estimate, Drawn]], compared: Sequence[Row], accuracies: Drawn
) -> Front:
    indices = [index for index, row in enumerate(compared) if row.row_id in costs]
    drawn = [costs[compared[index].row_id][1] for index in indices]
    chances = front_probability(accuracies[:, indices], drawn, shared=key == LATENCY).tolist()
    points = {
        compared[index].row_id: FrontPoint(cost=costs[compared[index].row_id][0], probability=chance)
        for index, chance in zip(indices, chances, strict=True)
    }
    return Front(key=key, title=title, points=points)


def _latencies(rows: Sequence[Row], runtime: str) -> dict[str, tuple[Estimate, Drawn]]:
    costs = {}
    for row in rows:
        if (timed := shown(row, runtime)) is not None:
            # The value is the percentile of all queries, as in the tables; rounds are resampled as wholes, because
            # queries of one round are not independent.
            value, interval = percentile(timed[1].samples_ms, P90), interval_over_rounds(timed[1], P90)
            cost = Estimate(value) if interval is None else of_interval(value, interval)
            costs[row.row_id] = cost, np.array(over_rounds(timed[1], P90))
    return costs


TARGETS: Final = (0.80, 0.85, 0.90)
"""Validation accuracies whose cost is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToAccuracy:
    """The cost until val reaches ``target``: means over the ``reached`` of ``trainings`` that do (None if none does).

    ``minutes`` are of training steps and the classifier pre-fit, without evaluation; ``tmacs`` are 1e12
    multiply-accumulate operations, three times those of a forward pass for each image of a step.
    """

    target: float
    trainings: int
    reached: int
    minutes: float | None
    tmacs: float | None


def cost_to_accuracy(row: Row, target: float) -> ToAccuracy:
    """Return the cost of a row's trainings (seeds and folds) until the first epoch with this accuracy on val."""
    trainings = [record for checkpoint in row.checkpoints for record in checkpoint.records]
    first = [next((cost[:2] for cost in cost_so_far(record) if cost[2] >= target), None) for record in trainings]
    costs = [cost for cost in first if cost is not None]
    minutes, tmacs = np.mean(costs, axis=0).tolist() if costs else (None, None)
    return ToAccuracy(target=target, trainings=len(trainings), reached=len(costs), minutes=minutes, tmacs=tmacs)


def cost_so_far(record: RunRecord) -> list[tuple[float, float, float]]:
    """Return minutes and 1e12 MACs of a training until the end of each epoch, and the accuracy on val there."""
    assert record.outcome is not None
    training, train = record.outcome.training, record.config.train
    features: float = training.head_images or 0
    if training.head_images is None and train.tune_layers == "head-then-all":
        # A record that did not store how many images its classifier was fitted to.
        counts = [count for count in record.dataset.counts["train"] if count]
        images = min(counts) * len(counts) if train.imbalance == "undersample" else sum(counts)
        features = train.train_share * images * train.feature_views
    seconds = training.head_time_s + np.cumsum([epoch.train_time_s for epoch in training.history])
    passes = features + train.passes_per_image * np.cumsum([epoch.images for epoch in training.history])
    return [
        (minutes, images * record.outcome.model.training_gmacs / 1e3, epoch.val_top1_accuracy)
        for minutes, images, epoch in zip((seconds / 60).tolist(), passes.tolist(), training.history, strict=True)
    ]
