"""Intervals of macro-F1 and balanced accuracy: a bootstrap of test images, stratified by class."""

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
"""Draws counted at once: 16 MB."""

MANY: Final = 4
"""With more wrong images than this for each wrong answer, drawing their numbers is faster than drawing them."""

KEPT: Final = 500
"""Draws kept for the next checkpoint: 40 MB."""

LANES: Final = 8

BLOCK: Final = 128
"""How numpy sums: eight sums side by side, of at most 128 terms."""

Floats = NDArray[np.float64]

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MacroIntervals:
    """95 % intervals over test images."""

    macro_f1: Interval
    balanced_accuracy: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    """A confusion matrix without the rows of classes that have no images: rows ``[K]`` are ``labels`` of C classes."""

    counts: Counts
    labels: Counts

    @property
    def support(self) -> Counts:
        """Images of each class ``[K]``."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def right(self) -> Counts:
        """Right answers of each class ``[K]``."""
        return np.asarray(self.counts[np.arange(len(self.labels)), self.labels])

    @property
    def predicted(self) -> Counts:
        """Images taken for each class ``[K]``."""
        return np.asarray(self.counts.sum(axis=0)[self.labels])


def macro_intervals(
    confusion: Counts, *, resamples: int = RESAMPLES, seed: int = 0, draws: "Draws | None" = None
) -> MacroIntervals:
    """Bootstrap the test images of each class by a confusion matrix ``[C, C]``; BCa intervals (Efron 1987).

    Resampling a class's images is drawing how many of them are right and what the others were taken for. Classes
    without images are omitted, as in the scores themselves. Where no resample differs (all right, or one answer
    always), the mean of the classes' Wilson intervals of recall takes its place, made to hold the score. ``draws``
    are those of other matrices, for whoever asks for many.
    """
    labels = np.flatnonzero(confusion.sum(axis=1))
    table = _Table(counts=confusion[labels], labels=labels)
    right, predicted = _resampled(table, resamples, np.random.default_rng(seed), draws or Draws())
    drawn = _resampled_macro(right, predicted, table.support)
    seen = _macro(table.right, table.predicted, table.support)
    skew = _skewness(table)
    found = [
        _bca(values, float(score), acceleration) if np.ptp(values) > 0 else _mean_wilson(table, float(score))
        for values, score, acceleration in zip(drawn, seen, skew, strict=True)
    ]
    return MacroIntervals(macro_f1=found[0], balanced_accuracy=found[1])


def macro_scores(confusion: Counts) -> tuple[float, float]:
    """Return macro-F1 and balanced accuracy of a confusion matrix ``[C, C]``, over classes that have images."""
    labels = np.flatnonzero(confusion.sum(axis=1))
    table = _Table(counts=confusion[labels], labels=labels)
    f1, balanced = _macro(table.right, table.predicted, table.support)
    return float(f1), float(balanced)


def _macro(right: NDArray[Any], predicted: NDArray[Any], support: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return macro-F1 and balanced accuracy, over the last axis."""
    return (2 * right / (predicted + support)).mean(axis=-1), (right / support).mean(axis=-1)


def _resampled_macro(right: list[Counts], predicted: list[Counts], support: Counts) -> tuple[Floats, Floats]:
    """Return both scores of resamples, whose counts are K times ``[R]``: as ``_macro``, but a class after the other.

    The order of the sums is numpy's along a last axis: what rounds alike is equal, and ties count in BCa.
    """
    f1 = [2 * hits / (taken + total) for hits, taken, total in zip(right, predicted, support, strict=True)]
    recall = [hits / total for hits, total in zip(right, support, strict=True)]
    return _sum(f1) / len(support), _sum(recall) / len(support)


def _sum(terms: Sequence[Floats]) -> Floats:
    """Add terms up in the order in which numpy adds up a contiguous axis."""
    if len(terms) < LANES:
        return reduce(np.add, terms)
    if len(terms) > BLOCK:
        half = len(terms) // 2 - len(terms) // 2 % LANES
        return _sum(terms[:half]) + _sum(terms[half:])
    whole = len(terms) - len(terms) % LANES
    lanes = [reduce(np.add, terms[lane:whole:LANES]) for lane in range(LANES)]
    while len(lanes) > 1:
        lanes = [one + other for one, other in zip(lanes[::2], lanes[1::2], strict=True)]
    return reduce(np.add, terms[whole:], lanes[0])


class Draws:
    """Binomial draws of one set of resamples, each kept by its numbers and the generator's state before it.

    Every bootstrap starts from one seed. So classes of equal support, and checkpoints of equal errors, come to the same
    draws time after time: for many checkpoints on few images these are nearly all.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._kept: dict[object, tuple[Counts, Any]] = {}

    def binomial(self, rng: np.random.Generator, number: int, share: float, *, size: int) -> Counts:
        """Return ``rng.binomial(number, share, size)``, and leave the generator as that does; not to be written to."""
        before = rng.bit_generator.state
        key = (number, share, size, before["state"]["state"], before["has_uint32"], before["uinteger"])
        if (known := self._kept.get(key)) is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            known = self._kept[key] = (rng.binomial(number, share, size=size), rng.bit_generator.state)
        drawn, rng.bit_generator.state = known
        return drawn


def _resampled(
    table: _Table, resamples: int, rng: np.random.Generator, draws: Draws
) -> tuple[list[Counts], list[Counts]]:
    """Draw how many images of each class are right, and how many are taken for it, ``[R]`` each.

    Arrays of one class stay in the processor's cache; those of all classes cost more to get than to fill.
    """
    classes = table.counts.shape[1]
    right: list[Counts] = []
    taken: dict[int, Counts] = {}
    waiting = _Tally(resamples * classes)
    for label, counts in zip(table.labels, table.counts, strict=True):
        total, wrong = int(counts.sum()), np.where(np.arange(classes) == label, 0, counts)
        missed = draws.binomial(rng, total, wrong.sum() / total, size=resamples)
        right.append(total - missed)
        answers = np.flatnonzero(wrong)
        if wrong.sum() > MANY * len(answers):
            shares = wrong[answers] / wrong.sum()
            each = rng.multinomial(missed, shares).T if len(answers) > 1 else missed[None]
            for answer, drawn in zip(answers.tolist(), each, strict=True):
                taken[answer] = taken.get(answer, 0) + drawn
        elif len(answers):
            waiting.add(_single(missed, np.repeat(answers, wrong[answers]), rng))
    if waiting.used:
        more = waiting.total().reshape(classes, resamples)
        taken = {answer: taken.get(answer, 0) + drawn for answer, drawn in enumerate(more)}
    return right, [taken.get(label, 0) + hits for label, hits in zip(table.labels.tolist(), right, strict=True)]


def _single(missed: Counts, answers: Counts, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw single wrong answers, as places of a table ``[C, R]``."""
    drawn = rng.integers(0, len(answers), size=int(missed.sum()), dtype=np.uint16)
    places = (answers * len(missed)).astype(np.int32)[drawn]
    places += np.repeat(np.arange(len(missed), dtype=np.int32), missed)
    return places


class _Tally:
    """Counts places, many at once: half of the bootstrap's time goes into counting."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._counts = np.zeros(0, dtype=np.int64)
        self._waiting: list[NDArray[np.int32]] = []
        self.used = False

    def add(self, places: NDArray[np.int32]) -> None:
        """Take more places, and count where enough wait."""
        self.used = True
        self._waiting.append(places)
        if sum(map(len, self._waiting)) > BATCH:
            self.total()

    def total(self) -> Counts:
        """Count what waits, and give all counts."""
        if self._waiting:
            counts = np.bincount(np.concatenate(self._waiting), minlength=self._length)
            self._counts = self._counts + counts if len(self._counts) else counts
            self._waiting = []
        return self._counts


def _skewness(table: _Table) -> tuple[float, float]:
    """Return BCa's acceleration of both scores: the skewness of what leaving out one image changes, within classes."""
    rows, answers = np.nonzero(table.counts)
    cells, classes = np.arange(len(rows)), len(table.labels)
    right, predicted, support = (
        np.repeat(values[None].astype(np.float64), len(rows), axis=0)
        for values in (table.right, table.predicted, table.support)
    )
    right[cells, rows] -= answers == table.labels[rows]
    place = np.full(table.counts.shape[1], -1)
    place[table.labels] = np.arange(classes)
    known = place[answers] >= 0
    predicted[cells[known], place[answers][known]] -= 1
    support[cells, rows] -= 1
    kept = support[cells, rows] > 0
    weights = np.where(kept, table.counts[rows, answers], 0).astype(np.float64)
    support[~kept] = 1
    return tuple(_acceleration(left, rows, weights, classes) for left in _macro(right, predicted, support))  # type: ignore[return-value]


def _acceleration(without: Floats, rows: Counts, weights: Floats, classes: int) -> float:
    """Return sum(u^3) / (6 sum(u^2)^1.5) of the influences u of single images, centred in each class."""
    totals = np.bincount(rows, weights, minlength=classes)
    means = np.bincount(rows, weights * without, minlength=classes) / np.maximum(totals, 1)
    influence = means[rows] - without
    spread = float((weights * influence**2).sum())
    return float((weights * influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0


def _bca(drawn: Floats, seen: float, acceleration: float) -> Interval:
    """Cut the bootstrap where bias and skewness say, in place of 2.5 and 97.5 % (Efron 1987)."""
    below = (np.count_nonzero(drawn < seen) / len(drawn)) + (np.count_nonzero(drawn == seen) / len(drawn)) / 2
    bias = float(ndtri(min(max(below, 1 / len(drawn)), 1 - 1 / len(drawn))))
    ends = bias + ndtri(np.array([0.025, 0.975]))
    low, high = quantiles(drawn, *ndtr(bias + ends / (1 - acceleration * ends)).tolist())
    return Interval(low=min(low, seen), high=max(high, seen))


def _mean_wilson(table: _Table, seen: float) -> Interval:
    each = [wilson_interval(int(right), int(total)) for right, total in zip(table.right, table.support, strict=True)]
    low, high = (float(np.mean([getattr(one, end) for one in each])) for end in ("low", "high"))
    return Interval(low=min(low, seen), high=max(high, seen))
