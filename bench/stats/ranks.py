"""Which rows may be the best: rank intervals, the probability of being the best, and bounds of the difference to it.

Pure functions. ``models`` are the rows of a table, whether each checkpoint is correct on each image ``[S, N]``;
``groups`` ``[N]`` is the group of each image, None if all are independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.stats.groups import Groups, meaningful, summed
from bench.stats.intervals import quantiles
from bench.stats.pairs import ALPHA, Paired, PairwiseTests, Right, compare_pair
from bench.stats.resampling import resampled_accuracies

Floats = NDArray[np.float64]

DRAWS: Final = 20_000
"""Draws of the largest of correlated normal deviates: its 95 % point has a standard error of 0.015."""


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The best and the worst rank that are compatible with the tests; rank 1 is the highest accuracy."""

    best: int
    worst: int

    def __str__(self) -> str:
        """Return the interval as a table shows it, such as ``1`` or ``1-3``."""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_intervals(comparison: PairwiseTests) -> list[RankInterval]:
    """Return the rank interval of each row, in the order of the comparison.

    The best rank is 1 plus the number of rows that are significantly better, the worst is the number of rows minus
    those that are significantly worse. Holm's correction bounds the probability of any false rejection by 5 %, so the
    intervals of all rows contain the true ranks simultaneously, with 95 % confidence. Rows that are truly equal share
    the ranks between them, and their intervals contain all of these.
    """
    # Intervals instead of groups of equal rows: "not significantly different" is not transitive, so that groups would
    # separate rows that the tests do not separate.
    # [i, j]: row i is significantly better than row j.
    better = comparison.apart & (comparison.differences > 0)
    best = 1 + better.sum(axis=0)
    worst = len(better) - better.sum(axis=1)
    return [RankInterval(first, last) for first, last in zip(best.tolist(), worst.tolist(), strict=True)]


def best_probabilities(models: Sequence[Right], groups: Groups | None = None, *, seed: int = 0) -> Floats:
    """Return the share ``[M]`` of bootstrap samples of test groups and seeds in which each model is the best.

    The same images are drawn for all models, and the seeds of each by themselves; models that tie share the sample.
    """
    if not models:
        return np.zeros(0)
    rng = np.random.default_rng(seed)
    by_checkpoint = resampled_accuracies(np.vstack(models).astype(np.float64), groups, seed=seed)
    ends = np.cumsum([len(model) for model in models])
    drawn = [
        np.take_along_axis(part, rng.integers(0, part.shape[1], part.shape), axis=1).mean(axis=1)
        for part in np.split(by_checkpoint, ends[:-1], axis=1)
    ]
    accuracies = np.stack(drawn, axis=1)
    # Rounding, so that equal means of different sums are ties.
    first = np.isclose(accuracies, accuracies.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    return np.asarray((first / first.sum(axis=1, keepdims=True)).mean(axis=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class ToBest:
    """A row against the best row: the difference (0 for the most accurate), and its simultaneous lower bound.

    The bounds of all rows hold together with 95 % confidence, whichever row is the best. ``difference`` is to
    the row that determines the bound.
    """

    difference: float
    low: float


def bounds_to_best(models: Sequence[Right], groups: Groups | None = None) -> list[ToBest]:
    """Return each model's one-sided lower bound of its accuracy minus that of the best model (Hsu 1981, 1996).

    Any model may be the best. For each of them, all others are compared with it by the tests of pairs, at a level at
    which all of these bounds hold together (Dunnett 1955); a model's bound is the lowest of them, and at most 0.
    """
    groups = meaningful(groups)
    levels = [_level(models, best, groups) for best in range(len(models))]

    def against(row: int, best: int) -> Paired:
        # Two-sided at twice the level: its lower bound is one-sided at that level.
        return compare_pair(models[row], models[best], groups, level=min(2 * levels[best], 1.0))

    bounds = []
    for row in range(len(models)):
        pairs = {best: against(row, best) for best in range(len(models)) if best != row}
        lowest = min(pairs, key=lambda best: pairs[best].interval.low, default=row)
        if lowest == row:
            bounds.append(ToBest(difference=0.0, low=0.0))
            continue
        pair = pairs[lowest]
        bounds.append(ToBest(difference=pair.difference, low=min(pair.interval.low, 0.0)))
    return bounds


def images_for_margin(row: ToBest, margin: float, images: int) -> int | None:
    """Return how many test images would bring a row's bound above ``-margin``, if its difference stays as it is.

    The distance from difference to bound falls with the square root of their number. None if the difference itself is
    not above ``-margin``.
    """
    if row.difference <= -margin:
        return None
    return int(np.ceil(images * ((row.difference - row.low) / (row.difference + margin)) ** 2))


def _level(models: Sequence[Right], best: int, groups: Groups | None) -> float:
    """Return the one-sided level of each comparison with one model at which all of them together have 5 %.

    From the largest of normal deviates that are correlated as the differences are; not below Bonferroni's level.
    """
    others = [np.asarray(model.mean(axis=0)) for row, model in enumerate(models) if row != best]
    if len(others) <= 1:
        return ALPHA
    bonferroni = ALPHA / len(others)
    changes = np.stack(others) - models[best].mean(axis=0)
    left = summed(changes - changes.mean(axis=1, keepdims=True), groups)
    spread = np.sqrt((left**2).sum(axis=1))
    # A model that equals the best one everywhere has no variance; as an independent one, it counts as much as any.
    scaled = left / np.where(spread > 0, spread, 1.0)[:, None]
    correlation = scaled @ scaled.T
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    largest = (np.random.default_rng(0).normal(size=(DRAWS, len(others))) @ root.T).max(axis=1)
    return max(1.0 - float(ndtr(quantiles(largest, 1 - ALPHA)[0])), bonferroni)
