"""Confidence intervals of macro-F1 and balanced accuracy by a bootstrap of test images, stratified by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bench.stats.intervals import Interval, quantiles, wilson_interval

RESAMPLES: Final = 10_000

BATCH: Final = 4_000_000
"""Draws that are counted at once: 16 MB of int32."""

MANY: Final = 4
"""Misclassified images per wrong class above which drawing counts is faster than drawing single images."""

KEPT: Final = 500
"""Arrays of draws that are cached for later checkpoints: 40 MB."""

LANES: Final = 8
"""Partial sums that numpy's pairwise summation keeps side by side."""

BLOCK: Final = 128
"""Terms above which numpy's pairwise summation splits a sum in two."""

Floats = NDArray[np.float64]

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroIntervals:
    """95 % intervals over test images."""

    macro_f1: Interval
    balanced_accuracy: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """A confusion matrix ``[K, C]`` without the rows of classes that have no images.

    ``labels`` ``[K]`` are the classes of the remaining rows, among the C columns.
    """

    counts: Counts
    labels: Counts

    @property
    def support(self) -> Counts:
        """Images of each class ``[K]``."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def right(self) -> Counts:
        """Correctly classified images of each class ``[K]``."""
        return np.asarray(self.counts[np.arange(len(self.labels)), self.labels])

    @property
    def predicted(self) -> Counts:
        """Images predicted as each class ``[K]``."""
        return np.asarray(self.counts.sum(axis=0)[self.labels])


def macro_intervals(
    confusion: Counts, *, resamples: int = RESAMPLES, seed: int = 0, draws: "DrawCache | None" = None
) -> MacroIntervals:
    """Return BCa bootstrap intervals (Efron 1987) from a confusion matrix ``[C, C]``.

    The test images of each class are resampled by drawing how many are classified correctly and which classes the
    others are predicted as. Classes without images are omitted, as in the scores themselves. If all resamples have the
    same score (the images of each class all have the same prediction), the interval is the mean of the Wilson intervals
    of the classes' recalls, extended to contain the score. ``draws`` caches draws between calls.
    """
    labels = np.flatnonzero(confusion.sum(axis=1))
    table = _Table(counts=confusion[labels], labels=labels)
    # Resampling counts is the same as resampling images, as both scores are functions of the confusion matrix alone,
    # and its cost does not grow with the images of a class that are correct.
    right, predicted = _resampled(table, resamples, np.random.default_rng(seed), draws or DrawCache())
    drawn = _resampled_macro(right, predicted, table.support)
    seen = _macro(table.right, table.predicted, table.support)
    skew = _skewness(table)
    intervals = [
        bca(values, float(score), acceleration) if np.ptp(values) > 0 else _mean_wilson(table, float(score))
        for values, score, acceleration in zip(drawn, seen, skew, strict=True)
    ]
    return MacroIntervals(macro_f1=intervals[0], balanced_accuracy=intervals[1])


def macro_scores(confusion: Counts) -> tuple[float, float]:
    """Return macro-F1 and balanced accuracy of a confusion matrix ``[C, C]``, over the classes that have images."""
    labels = np.flatnonzero(confusion.sum(axis=1))
    table = _Table(counts=confusion[labels], labels=labels)
    f1, balanced = _macro(table.right, table.predicted, table.support)
    return float(f1), float(balanced)


def _macro(right: NDArray[Any], predicted: NDArray[Any], support: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return macro-F1 and balanced accuracy, averaged over classes on the last axis."""
    # F1 in this form has no 0 / 0 for a class that is never predicted, because every class here has images.
    return (2 * right / (predicted + support)).mean(axis=-1), (right / support).mean(axis=-1)


def _resampled_macro(right: list[Counts], predicted: list[Counts], support: Counts) -> tuple[Floats, Floats]:
    """Return both scores of R resamples, as ``_macro`` does, from K arrays of counts ``[R]``.

    Classes are added in the order of numpy's sum over a contiguous axis, because a resample with the counts of the
    observed table must round to the observed score: BCa counts ties.
    """
    f1 = [2 * hits / (taken + total) for hits, taken, total in zip(right, predicted, support, strict=True)]
    recall = [hits / total for hits, total in zip(right, support, strict=True)]
    return _sum(f1) / len(support), _sum(recall) / len(support)


def _sum(terms: Sequence[Floats]) -> Floats:
    """Add terms in the order of numpy's pairwise summation of a contiguous axis."""
    if len(terms) < LANES:
        return reduce(np.add, terms)
    if len(terms) > BLOCK:
        half = len(terms) // 2 - len(terms) // 2 % LANES
        return _sum(terms[:half]) + _sum(terms[half:])
    whole = len(terms) - len(terms) % LANES
    lanes = [reduce(np.add, terms[lane:whole:LANES]) for lane in range(LANES)]
    while len(lanes) > 1:
        lanes = [even + odd for even, odd in zip(lanes[::2], lanes[1::2], strict=True)]
    return reduce(np.add, terms[whole:], lanes[0])


class DrawCache:
    """A cache of binomial draws, by their parameters and the state of the generator before them.

    Every bootstrap starts from the same seed, so classes of equal support and checkpoints with equal numbers of errors
    repeat the same draws. With many checkpoints on few images, nearly all draws are repetitions.
    """

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._kept: dict[object, tuple[Counts, Any]] = {}

    def binomial(self, rng: np.random.Generator, number: int, share: float, *, size: int) -> Counts:
        """Return ``rng.binomial(number, share, size)`` and advance the generator accordingly.

        The returned array is shared and must not be modified.
        """
        # Equal parameters alone would return one class's draws for another class, and correlate the two.
        before = rng.bit_generator.state
        key = (number, share, size, before["state"]["state"], before["has_uint32"], before["uinteger"])
        if (entry := self._kept.get(key)) is None:
            # The simplest bound on memory: the next checkpoint fills the cache again, from its first class on.
            if len(self._kept) >= KEPT:
                self._kept.clear()
            entry = self._kept[key] = (rng.binomial(number, share, size=size), rng.bit_generator.state)
        drawn, rng.bit_generator.state = entry
        return drawn


def _resampled(
    table: _Table, resamples: int, rng: np.random.Generator, draws: DrawCache
) -> tuple[list[Counts], list[Counts]]:
    """Draw how many images of each class are classified correctly and how many are predicted as it, ``[R]`` each."""
    classes = table.counts.shape[1]
    # One array per class stays in the processor's cache; allocating an array for all classes takes longer than
    # filling it.
    right: list[Counts] = []
    taken: dict[int, Counts] = {}
    waiting = _Tally(resamples * classes)
    for label, counts in zip(table.labels, table.counts, strict=True):
        total, wrong = int(counts.sum()), np.where(np.arange(classes) == label, 0, counts)
        # The errors are drawn rather than the correct predictions, as they are then divided among the other classes.
        missed = draws.binomial(rng, total, wrong.sum() / total, size=resamples)
        right.append(total - missed)
        predicted = np.flatnonzero(wrong)
        # The errors of a class are distributed over the wrong classes by multinomial counts if there are many of them,
        # and one by one otherwise; both have the same distribution.
        if wrong.sum() > MANY * len(predicted):
            shares = wrong[predicted] / wrong.sum()
            by_class = rng.multinomial(missed, shares).T if len(predicted) > 1 else missed[None]
            for column, drawn in zip(predicted.tolist(), by_class, strict=True):
                taken[column] = taken.get(column, 0) + drawn
        elif len(predicted):
            waiting.add(_single(missed, np.repeat(predicted, wrong[predicted]), rng))
    if waiting.used:
        more = waiting.total().reshape(classes, resamples)
        taken = {column: taken.get(column, 0) + drawn for column, drawn in enumerate(more)}
    return right, [taken.get(label, 0) + hits for label, hits in zip(table.labels.tolist(), right, strict=True)]


def _single(missed: Counts, predicted: Counts, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw the predicted classes of single misclassified images, as flat indices into a table ``[C, R]``."""
    # Small integer types, as millions of draws are written and read here.
    drawn = rng.integers(0, len(predicted), size=int(missed.sum()), dtype=np.uint16)
    indices = (predicted * len(missed)).astype(np.int32)[drawn]
    indices += np.repeat(np.arange(len(missed), dtype=np.int32), missed)
    return indices


class _Tally:
    """A histogram of indices, which counts them in large batches: half of the bootstrap's time is spent counting."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._counts = np.zeros(0, dtype=np.int64)
        self._waiting: list[NDArray[np.int32]] = []
        self.used = False

    def add(self, indices: NDArray[np.int32]) -> None:
        """Add indices, and count all pending ones if there are more than ``BATCH``."""
        self.used = True
        self._waiting.append(indices)
        if sum(map(len, self._waiting)) > BATCH:
            self.total()

    def total(self) -> Counts:
        """Count the pending indices and return all counts."""
        if self._waiting:
            counts = np.bincount(np.concatenate(self._waiting), minlength=self._length)
            self._counts = self._counts + counts if len(self._counts) else counts
            self._waiting = []
        return self._counts


def _skewness(table: _Table) -> tuple[float, float]:
    """Return BCa's acceleration of both scores, from the changes that leaving out one image makes (jackknife)."""
    # Images of one cell of the confusion matrix are interchangeable, so that one of each is removed, with a weight.
    rows, columns = np.nonzero(table.counts)
    cells, classes = np.arange(len(rows)), len(table.labels)
    right, predicted, support = (
        np.repeat(values[None].astype(np.float64), len(rows), axis=0)
        for values in (table.right, table.predicted, table.support)
    )
    right[cells, rows] -= columns == table.labels[rows]
    # A predicted class without test images has no row, and takes no part in the scores.
    positions = np.full(table.counts.shape[1], -1)
    positions[table.labels] = np.arange(classes)
    present = positions[columns] >= 0
    predicted[cells[present], positions[columns][present]] -= 1
    support[cells, rows] -= 1
    # Without its only image a class has no recall: its cell gets weight 0, and support 1 to avoid a division by 0.
    kept = support[cells, rows] > 0
    weights = np.where(kept, table.counts[rows, columns], 0).astype(np.float64)
    support[~kept] = 1
    return tuple(_acceleration(left, rows, weights, classes) for left in _macro(right, predicted, support))  # type: ignore[return-value]


def _acceleration(without: Floats, rows: Counts, weights: Floats, classes: int) -> float:
    """Return sum(u^3) / (6 sum(u^2)^1.5) of the influences u of single images, centred within each class."""
    totals = np.bincount(rows, weights, minlength=classes)
    means = np.bincount(rows, weights * without, minlength=classes) / np.maximum(totals, 1)
    influence = means[rows] - without
    spread = float((weights * influence**2).sum())
    return float((weights * influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0


def bca(drawn: Floats, seen: float, acceleration: float) -> Interval:
    """Return the BCa interval: percentiles of the resamples, corrected for bias and skewness (Efron 1987).

    Plain percentiles covered 92.7 % with 30 images per class.
    """
    # The scores are discrete: ties count as half, as in scipy, or the bias of a symmetric distribution would not be 0.
    below = (np.count_nonzero(drawn < seen) / len(drawn)) + (np.count_nonzero(drawn == seen) / len(drawn)) / 2
    # Kept off 0 and 1, where the normal quantile is infinite.
    bias = float(ndtri(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn))))
    ends = bias + ndtri(np.array([0.025, 0.975]))
    low, high = quantiles(drawn, *ndtr(bias + ends / (1 - acceleration * ends)).tolist())
    return Interval(low=min(low, seen), high=max(high, seen))


def _mean_wilson(table: _Table, seen: float) -> Interval:
    # A bootstrap without spread would give an interval of length 0, however few images there are.
    intervals = [
        wilson_interval(int(right), int(total)) for right, total in zip(table.right, table.support, strict=True)
    ]
    low, high = (float(np.mean([getattr(interval, end) for interval in intervals])) for end in ("low", "high"))
    return Interval(low=min(low, seen), high=max(high, seen))
