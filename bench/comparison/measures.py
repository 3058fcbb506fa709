"""The measures of rows: one registry, which the tables, the CSV, the page, the Pareto fronts and ``recommend`` read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from bench.comparison.scores import worst_class
from bench.stats.intervals import Interval, Score

if TYPE_CHECKING:
    from bench.comparison.analysis import Comparison  # whose fronts read the registry
    from bench.comparison.rows import Row

Kind = Literal["exact", "at least", "confidence", "simultaneous", "range"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and its interval if it has one.

    ``kind``: an exact value; a lower bound; with a 95 % confidence interval, or one that holds together with those of
    other classes or pairs; or the mean of seeds with the least and the greatest. ``subject`` is the class it is of.
    """

    value: float
    low: float | None = None
    high: float | None = None
    kind: Kind = "exact"
    subject: str | None = None


def of_interval(value: float, interval: Interval, kind: Kind = "confidence") -> Estimate:
    """Return a value with its interval."""
    return Estimate(value, interval.low, interval.high, kind)


def of_score(score: Score, kind: Kind = "confidence") -> Estimate:
    """Return a score with its interval, clipped to 0 and 1."""
    return Estimate(score.value, max(score.interval.low, 0.0), min(score.interval.high, 1.0), kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A measure of the rows of a table.

    ``of`` returns its value in base units (fractions, bytes, seconds), or None if a row has none; it is shown times
    ``scale`` in ``unit``, as ``spec`` formats it. ``main``, ``rows`` and ``front`` are the titles of its columns in the
    main table, in Rows and among the costs of the Pareto fronts, and ``csv`` that in the CSV; empty: it has no column.
    ``of_seeds`` returns the values of the row's seeds where they differ, so that fronts resample them.
    """

    key: str
    title: str
    unit: str
    better: Literal["high", "low"]
    of: "Callable[[Comparison, Row], Estimate | None]"
    scale: float = 1.0
    spec: str = ".1f"
    main: str = ""
    rows: str = ""
    front: str = ""
    csv: str = ""
    of_seeds: "Callable[[Row], Sequence[float]] | None" = None

    def shown(self, estimate: Estimate) -> Estimate:
        """Return an estimate in the unit that is shown."""
        low, high = (None if end is None else self.scale * end for end in (estimate.low, estimate.high))
        return replace(estimate, value=self.scale * estimate.value, low=low, high=high)


def _worst(_comparison: "Comparison", row: "Row") -> Estimate | None:
    worst = worst_class(row)
    return None if worst is None else replace(of_score(worst[1], "simultaneous"), subject=worst[0])


def _log_loss(_comparison: "Comparison", row: "Row") -> Estimate:
    return Estimate(float(np.mean([checkpoint.mean("test", "log_loss") for checkpoint in row.checkpoints])))


def _gmacs(_comparison: "Comparison", row: "Row") -> Estimate:
    model = row.outcome.model
    return Estimate(model.gmacs, kind="at least" if model.uncounted_products else "exact")


def _training_times(row: "Row") -> list[float]:
    # With folds a checkpoint is several trainings, one after the other, all of which have to be paid for.
    return [sum(outcome.training.train_time_s for outcome in checkpoint.outcomes) for checkpoint in row.checkpoints]


def _training(_comparison: "Comparison", row: "Row") -> Estimate:
    times = _training_times(row)
    if len(times) == 1:
        return Estimate(times[0])
    return Estimate(float(np.mean(times)), min(times), max(times), "range")


MEASURES: Final[Mapping[str, Measure]] = {
    measure.key: measure
    for measure in (
        Measure(
            key="top1",
            title="Top-1 accuracy",
            unit="%",
            better="high",
            scale=100,
            main="Top-1 % (95 % CI)",
            of=lambda comparison, row: of_score(comparison.accuracy(row)),
        ),
        Measure(
            key="macro_f1",
            title="Macro-F1",
            unit="%",
            better="high",
            scale=100,
            main="Macro-F1 %",
            of=lambda comparison, row: of_score(comparison.macro_f1(row)),
        ),
        Measure(
            key="worst",
            title="Recall of the worst class",
            unit="%",
            better="high",
            scale=100,
            rows="Worst class % (simultaneous 95 % CI)",
            of=_worst,
        ),
        Measure(key="log_loss", title="Log loss", unit="nats", better="low", spec=".3f", of=_log_loss),
        Measure(
            key="params",
            title="Parameters",
            unit="M",
            better="low",
            scale=1e-6,
            spec=".2f",
            main="Params (M)",
            front="Params, M",
            csv="num_params",
            of=lambda _, row: Estimate(row.outcome.model.num_params),
        ),
        Measure(
            key="gmacs",
            title="Multiply-accumulates per image",
            unit="GMACs",
            better="low",
            spec=".3f",
            main="GMACs",
            front="GMACs",
            csv="gmacs",
            of=_gmacs,
        ),
        Measure(
            key="size",
            title="ONNX file",
            unit="MB",
            better="low",
            scale=1e-6,
            front="ONNX, MB",
            of=lambda _, row: Estimate(row.outcome.artifact.size_bytes),
        ),
        Measure(
            key="training",
            title="Training",
            unit="s",
            better="low",
            spec=".0f",
            rows="Training, s",
            front="Training, s",
            of=_training,
            of_seeds=_training_times,
        ),
    )
}
"""Measures by key, in the order of their columns. Latencies are measures of a runtime and a machine (``Latency``)."""
