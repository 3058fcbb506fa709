"""The comparison of two rows or runs on the same test images."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.comparison.analysis import groups_of
from bench.comparison.decisions.sides import Side
from bench.comparison.latencies.speeds import ratio, runtime_text, runtimes_of, same_network, shown
from bench.comparison.measures import Estimate, of_interval, of_score
from bench.comparison.scores import minority_classes, recalls
from bench.config import Budget
from bench.stats.groups import Groups, number_of
from bench.stats.losses import compare_losses
from bench.stats.pairs import ALPHA, Right, compare_pair, speaks_of_models
from bench.stats.power import Power, power_of

Test = Literal["exact", "unequal seeds", "over seeds"]
"""Exact for these checkpoints; for different numbers of seeds; or Welch's t test over seeds and images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A difference in accuracy (a fraction), with p and mid-p values that are not adjusted for other pairs."""

    estimate: Estimate
    p_value: float
    mid_p: float

    @property
    def significant(self) -> bool:
        """Whether it is significant at 5 %."""
        return self.p_value <= ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class SideResult:
    """The scores and conditions of a row or run that is compared; ``recalls`` are by class."""

    name: str
    top1: Estimate
    macro_f1: Estimate
    init: str
    recipe: str
    budget: Budget
    recalls: tuple[Estimate | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PairComparison:
    """A row or run (``row``) minus another one (``against``), on the same test images.

    ``fourfold`` are numbers of images: both right, only ``against`` right, only ``row`` right, both wrong; None with
    several seeds. ``loss`` is the difference of log loss in nats and its p value, None if it is not stored. ``times``
    are ratios of latency by runtime, None if not measured in one session; empty if both have the same network.
    ``minority`` is None without test images of minority classes.
    """

    row: SideResult
    against: SideResult
    dataset: str
    class_names: tuple[str, ...]
    test_counts: tuple[int, ...]
    images: int
    groups: int
    accuracy: Difference
    test: Test
    fourfold: tuple[int, int, int, int] | None
    loss: tuple[Estimate, float] | None
    power: Power | None
    same_table: bool
    same_network: bool
    times: tuple[tuple[str, Estimate | None], ...]
    minority_classes: tuple[str, ...]
    minority_images: int
    minority: Difference | None

    @property
    def loss_significant(self) -> bool:
        """Whether the log losses differ significantly at 5 %."""
        return self.loss is not None and self.loss[1] <= ALPHA


def compare(row: Side, against: Side) -> PairComparison:
    """Compare two rows or runs that were tested on the same images."""
    other, right, table = against.right, row.right, against.table
    groups, images = groups_of([against.row, row.row]), right.shape[1]
    labels, predictions = minority_classes(table), against.predictions
    alone: Test = "exact" if len(right) == len(other) else "unequal seeds"
    inside = np.zeros(images, dtype=bool) if predictions is None else np.isin(predictions.labels, labels)
    return PairComparison(
        row=_side(row),
        against=_side(against),
        dataset=table.key.dataset,
        class_names=table.first.dataset.class_names,
        test_counts=tuple(table.test_counts),
        images=images,
        groups=number_of(groups, images),
        accuracy=difference(right, other, groups),
        test="over seeds" if speaks_of_models(right, other) else alone,
        # The fourfold table is that of McNemar's test, which applies only to single checkpoints.
        fourfold=_fourfold(right[0], other[0]) if len(right) == len(other) == 1 else None,
        loss=_loss(row, against, groups),
        power=power_of([other, right], groups),
        same_table=row.table.key == table.key,
        same_network=same_network(row.row, against.row),
        times=() if same_network(row.row, against.row) else _times(row, against),
        minority_classes=tuple(table.first.dataset.class_names[label] for label in labels),
        minority_images=int(inside.sum()),
        minority=difference(right[:, inside], other[:, inside], None if groups is None else groups[inside])
        if inside.any()
        else None,
    )


def difference(right: Right, other: Right, groups: Groups | None) -> Difference:
    """Return the accuracy of one row minus that of another, from whether their checkpoints are correct."""
    paired = compare_pair(right, other, groups)
    estimate = of_interval(paired.difference, paired.interval)
    return Difference(estimate=estimate, p_value=paired.p_value, mid_p=paired.mid_p)


def _side(side: Side) -> SideResult:
    base = side.row.first.base
    return SideResult(
        name=side.name,
        top1=of_score(side.comparison.accuracy(side.row)),
        macro_f1=of_score(side.comparison.macro_f1(side.row)),
        init=side.row.init,
        recipe=base.recipe,
        budget=side.table.key.budget,
        recalls=tuple(None if score is None else of_score(score) for score in recalls(side.row)),
    )


def _fourfold(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    both, only_other, only_row, none = (
        int(cell.sum()) for cell in (right & other, ~right & other, right & ~other, ~right & ~other)
    )
    return both, only_other, only_row, none


def _loss(row: Side, against: Side, groups: Groups | None) -> tuple[Estimate, float] | None:
    losses = [losses for side in (row, against) if (losses := side.row.losses) is not None]
    if len(losses) < 2:  # noqa: PLR2004 - a pair
        return None
    tests = compare_losses(losses, groups)
    value, low, high, p_value = (
        float(matrix[0, 1]) for matrix in (tests.differences, tests.low, tests.high, tests.p_values)
    )
    return Estimate(value, low, high, "confidence"), p_value


def _times(row: Side, against: Side) -> tuple[tuple[str, Estimate | None], ...]:
    times = []
    for runtime in runtimes_of(against.table.rows):
        own, other = shown(row.row, runtime), shown(against.row, runtime)
        if own is not None and other is not None:
            # Times of different sessions are not compared: the machine may have changed speed in between.
            within = ratio(own[1], other[1])
            estimate = None if within is None else of_interval(within.value, within.interval)
            times.append((runtime_text(runtime, against.table), estimate))
    return tuple(times)
