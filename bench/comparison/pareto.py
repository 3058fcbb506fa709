"""Costs of rows: Pareto fronts of accuracy against cost, and the cost of training to an accuracy on val."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.comparison.sessions import interval_over_rounds, over_rounds
from bench.comparison.speeds import reference_runtime, runtime_text, shown
from bench.comparison.tables import Row, Table
from bench.records.schema import RunRecord
from bench.stats.groups import Groups
from bench.stats.intervals import Interval, mean_interval, percentile
from bench.stats.resampling import front_probability, resampled_accuracies

P90: Final = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """A cost of a row, its 95 % interval (None if it is exact), and its values over rounds or seeds for resampling."""

    value: float
    interval: Interval | None
    drawn: NDArray[np.float64]


def _exact(value: float) -> Cost:
    return Cost(value=value, interval=None, drawn=np.array([value]))


def _latency(entry: Row, runtime: str | None) -> Cost | None:
    row = shown(entry, runtime) if runtime else None
    if row is None:
        return None
    # The value is the percentile of all queries, as in the tables; rounds are resampled as wholes, because queries of
    # one round are not independent.
    value, drawn = percentile(row[1].samples_ms, P90), np.array(over_rounds(row[1], P90))
    return Cost(value=value, interval=interval_over_rounds(row[1], P90), drawn=drawn)


def _training(row: Row) -> Cost:
    # With folds a checkpoint is several trainings, all of which have to be paid for.
    times = [sum(outcome.training.train_time_s for outcome in checkpoint.outcomes) for checkpoint in row.checkpoints]
    interval = mean_interval(times) if len(times) > 1 else None
    return Cost(value=float(np.mean(times)), interval=interval, drawn=np.array(times))


COSTS: Final[dict[str, Callable[[Row, str | None], Cost | None]]] = {
    "p90 latency, ms": _latency,
    "GMACs": lambda entry, _: _exact(entry.outcome.model.gmacs),
    "Params, M": lambda entry, _: _exact(entry.outcome.model.num_params / 1e6),
    "ONNX, MB": lambda entry, _: _exact(entry.outcome.artifact.size_bytes / 1e6),
    "Training, s": lambda entry, _: _training(entry),
}
"""Functions that return a cost of a row for a reference runtime, by title; None if the row has no such value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """One cost of the compared rows that have it, and each row's bootstrap probability of being on the front."""

    title: str
    rows: tuple[Row, ...]
    costs: tuple[Cost, ...]
    probabilities: tuple[float, ...]


def fronts(compared: Sequence[Row], table: Table, groups: Groups | None) -> list[Front]:
    """Return a front for every cost that at least one of the compared rows has.

    ``groups`` ``[N]`` is the group of each test image; None if all images are independent.
    """
    if not compared:
        return []
    runtime = reference_runtime(table.rows)
    right = np.stack([row.right.mean(axis=0) for row in compared if row.right is not None])
    # One set of resamples for all costs, so that the probabilities of the fronts are comparable.
    accuracies = resampled_accuracies(right, groups)
    every = []
    for name, cost_of in COSTS.items():
        costs = [cost_of(row, runtime) for row in compared]
        indices = [index for index, cost in enumerate(costs) if cost is not None]
        if not indices:
            continue
        drawn = [cost.drawn for cost in costs if cost is not None]
        chances = front_probability(accuracies[:, indices], drawn, shared=cost_of is _latency)
        every.append(
            Front(
                title=f"{name} ({runtime_text(runtime, table)})" if cost_of is _latency and runtime else name,
                rows=tuple(compared[index] for index in indices),
                costs=tuple(cost for cost in costs if cost is not None),
                probabilities=tuple(chances.tolist()),
            )
        )
    return every


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
    costs = [cost for record in trainings if (cost := _until(record, target)) is not None]
    minutes, tmacs = np.mean(costs, axis=0).tolist() if costs else (None, None)
    return ToAccuracy(target=target, trainings=len(trainings), reached=len(costs), minutes=minutes, tmacs=tmacs)


def _until(record: RunRecord, target: float) -> tuple[float, float] | None:
    """Return minutes and 1e12 MACs of a training until val has reached an accuracy; None if it has not."""
    return next(((minutes, tmacs) for minutes, tmacs, reached in cost_so_far(record) if reached >= target), None)


def cost_so_far(record: RunRecord) -> list[tuple[float, float, float]]:
    """Return minutes and 1e12 MACs of a training until the end of each epoch, and the accuracy on val there."""
    assert record.outcome is not None
    training, train = record.outcome.training, record.config.train
    features: float = training.head_images or 0
    if training.head_images is None and train.tune_layers == "head-then-all":
        features = _train_images(record) * train.feature_views
    seconds = training.head_time_s + np.cumsum([epoch.train_time_s for epoch in training.history])
    passes = features + train.passes_per_image * np.cumsum([epoch.images for epoch in training.history])
    return [
        (minutes, images * record.outcome.model.training_gmacs / 1e3, epoch.val_top1_accuracy)
        for minutes, images, epoch in zip((seconds / 60).tolist(), passes.tolist(), training.history, strict=True)
    ]


def _train_images(record: RunRecord) -> float:
    """Return the number of train images of a run that did not store how many its classifier was fitted to."""
    train, counts = record.config.train, [count for count in record.dataset.counts["train"] if count]
    return train.train_share * (min(counts) * len(counts) if train.imbalance == "undersample" else sum(counts))
