"""Scores of rows and of their classes with intervals; which classes are small or minority classes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.comparison.rows import Checkpoint, Row
from bench.comparison.tables import Table
from bench.records.predictions import StoredPredictions
from bench.stats.grouped_macro import grouped_macro_intervals
from bench.stats.groups import (
    Groups,
    SeedComponent,
    effective_size,
    meaningful,
    over_images_and_seeds,
    proportion_interval,
    repeated_interval,
)
from bench.stats.intervals import Interval, Score, wilson_interval
from bench.stats.macro import RESAMPLES, DrawCache, MacroIntervals, macro_intervals
from bench.stats.resampling import CALIBRATED_RESAMPLES, calibrated_ece, uniforms_for
from imgcls.parallel import usable_cores

IMAGES_FOR_THREADS: Final = 2_000
"""Test images below which threads lose as much time waiting for each other as a second core saves."""

MANY_CHECKPOINTS: Final = 50
"""Checkpoints of a table above which each has a fifth of the resamples, as they would take most of the time."""

FEWER: Final = 5
"""With 2,000 resamples the standard error of a bound is a sixteenth of the score's; with 10,000 a thirty-sixth."""

SMALL_CLASS: Final = 30
"""Test images of a class below which the bootstrap's intervals are too short."""


def accuracy_interval(checkpoint: Checkpoint) -> Interval:
    """Return the interval of one checkpoint's accuracy over test images: Wilson's, at the effective sample size."""
    if checkpoint.predictions is not None:
        return proportion_interval(checkpoint.predictions.right, meaningful(checkpoint.predictions.group))
    total = int(checkpoint.confusion.sum())
    return wilson_interval(round(checkpoint.accuracy * total), total)


def accuracy(row: Row, groups: Groups | None, component: SeedComponent | None) -> Score:
    """Return top-1 accuracy with its interval: over images and seeds, or without ``component`` over images.

    ``component`` is that of the row's table; None if no row of it has several seeds.
    """
    values = [checkpoint.accuracy for checkpoint in row.checkpoints]
    if component is None:
        interval = accuracy_interval(row.checkpoints[0])
    elif row.right is not None:
        interval = repeated_interval(row.right, groups, component)
    else:
        interval = over_seeds(values, [accuracy_interval(checkpoint) for checkpoint in row.checkpoints], component)
    return Score(value=row.accuracy, interval=interval)


def macro_f1(row: Row, intervals: Sequence[Interval], component: SeedComponent | None) -> Score:
    """Return macro-F1 with its interval: over images and seeds, or without ``component`` over images.

    ``intervals`` are those of the row's checkpoints over images.
    """
    values = [checkpoint.macro_scores[0] for checkpoint in row.checkpoints]
    interval = intervals[0] if component is None else over_seeds(values, intervals, component)
    return Score(value=float(np.mean(values)), interval=interval)


def over_seeds(values: Sequence[float], intervals: Sequence[Interval], component: SeedComponent) -> Interval:
    """Return the interval of a mean over seeds, from the values and the intervals over images of the checkpoints."""
    # Their mean is rather too long: seeds that are right on different images narrow it.
    low, high = (float(np.mean([getattr(interval, end) for interval in intervals])) for end in ("low", "high"))
    share = float(np.mean(values))
    return over_images_and_seeds(share, Interval(low=low, high=high), component, len(values))


def bootstrapped(checkpoints: Sequence[Checkpoint]) -> list[MacroIntervals]:
    """Return the intervals of macro-F1 and balanced accuracy of checkpoints, on all cores if there are many images."""
    # Checkpoints of one table have the same numbers of images per class, so that their bootstraps share draws.
    draws, resamples = DrawCache(), RESAMPLES // _divisor(len(checkpoints))

    def interval(checkpoint: Checkpoint) -> MacroIntervals:
        predictions = checkpoint.predictions
        if predictions is not None and (groups := meaningful(predictions.group)) is not None:
            return grouped_macro_intervals(predictions.labels, predictions.predicted, groups, resamples=resamples)
        return macro_intervals(checkpoint.confusion, resamples=resamples, draws=draws)

    if sum(int(checkpoint.confusion.sum()) for checkpoint in checkpoints[:1]) < IMAGES_FOR_THREADS:
        return list(map(interval, checkpoints))
    # Threads, because numpy releases the GIL while it draws, and starting processes takes longer.
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(interval, checkpoints))


def expected_eces(predictions: Sequence[StoredPredictions]) -> list[tuple[float, float]]:
    """Return mean and 95th percentile of the ECE of perfectly calibrated models with the same confidences as these."""
    uniforms = uniforms_for([len(part.labels) for part in predictions])
    resamples = CALIBRATED_RESAMPLES // _divisor(len(predictions))
    return [
        calibrated_ece(part.p_predicted, resamples=resamples, uniforms=uniforms(len(part.labels)))
        for part in predictions
    ]


def _divisor(checkpoints: int) -> int:
    return 1 if checkpoints <= MANY_CHECKPOINTS else FEWER


def recalls(row: Row, *, confidence: float = 0.95) -> list[Score | None]:
    """Return the recall of each class, averaged over seeds, with Wilson's interval; None for a class without images.

    The interval of several checkpoints is that of a single one with their mean recall. It covers the choice of test
    images, for which it is conservative, but not the variation between seeds.
    """
    correct = np.stack([np.diag(checkpoint.confusion) for checkpoint in row.checkpoints])
    totals = row.checkpoints[0].confusion.sum(axis=1)
    effective = _effective_sizes(row, confidence)
    return [
        _recall(right, int(total), effective.get(label, float(total)), confidence)
        for label, (right, total) in enumerate(zip(correct.T, totals, strict=True))
    ]


def _effective_sizes(row: Row, confidence: float) -> dict[int, float]:
    """Return the effective sample sizes of the classes whose test images come in groups."""
    predictions = row.checkpoints[0].predictions
    if row.right is None or predictions is None:
        return {}
    sizes, mean = {}, row.right.mean(axis=0)
    for label in np.unique(predictions.labels).tolist():
        inside = predictions.labels == label
        if (groups := meaningful(predictions.group[inside])) is not None:
            sizes[label] = effective_size(mean[inside], groups, confidence=confidence)
    return sizes


def _recall(right: NDArray[np.int64], total: int, effective: float, confidence: float) -> Score | None:
    if total == 0:
        return None
    mean = float(right.mean()) / total
    # A whole number of images, unless groups make it an effective one.
    successes = round(mean * total) if effective == total else mean * effective
    interval = wilson_interval(successes, effective, confidence=confidence)
    # The interval is that of a whole number of images, which the mean of several seeds need not be.
    interval = Interval(low=min(interval.low, mean), high=max(interval.high, mean))
    return Score(value=mean, interval=interval)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Images of the class ``true`` that are taken for the class ``predicted``, summed over a row's checkpoints."""

    true: str
    predicted: str
    images: int
    share: float
    """Of all images of the class ``true``."""


def most_confused(row: Row, *, most: int = 10) -> list[Confusion]:
    """Return the most frequent confusions of a row, the most frequent first."""
    counts = np.sum([checkpoint.confusion for checkpoint in row.checkpoints], axis=0)
    totals, wrong = counts.sum(axis=1), counts - np.diag(np.diag(counts))
    names = row.first.dataset.class_names
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    cells = [divmod(int(index), len(names)) for index in order]
    return [
        Confusion(
            true=names[true],
            predicted=names[predicted],
            images=int(wrong[true, predicted]),
            share=float(wrong[true, predicted] / totals[true]),
        )
        for true, predicted in cells
        if wrong[true, predicted]
    ]


def worst_class(row: Row) -> tuple[str, Score] | None:
    """Return the class with the lowest recall, with an interval that is simultaneous over all classes (Bonferroni).

    The class is selected for its low recall: an interval for a class chosen in advance would be too short.
    """
    classes = np.count_nonzero(row.checkpoints[0].confusion.sum(axis=1))
    scores = recalls(row, confidence=1 - 0.05 / max(int(classes), 1))
    pairs = zip(row.first.dataset.class_names, scores, strict=True)
    scored_classes = [(name, score) for name, score in pairs if score is not None]
    return min(scored_classes, key=lambda pair: pair[1].value, default=None)


def minority_classes(table: Table) -> list[int]:
    """Return the classes with fewer than half as many train images as the median class, before undersampling."""
    counts = table.first.dataset.counts
    # Undersampling changes train only; val and test keep the proportions of the data set. Otherwise test does not
    # count: it may have equally many images of each class.
    natural = ("val", "test") if table.first.dataset.undersampled else ("train",)
    sizes = np.sum([counts[split] for split in natural], axis=0)
    return [int(label) for label in np.flatnonzero(sizes < np.median(sizes) / 2)]
