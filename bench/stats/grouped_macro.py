"""Confidence intervals of macro-F1 and balanced accuracy by a bootstrap of groups of test images."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.stats.groups import Groups, proportion_interval, summed
from bench.stats.intervals import Interval
from bench.stats.macro import RESAMPLES, Floats, MacroIntervals, bca

BATCH: Final = 4_000_000
"""Elements of an array of resampled patterns: 32 MB."""


def grouped_macro_intervals(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    groups: Groups,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MacroIntervals:
    """Return BCa bootstrap intervals (Efron 1987) from labels, predictions and groups ``[N]``.

    Groups are resampled instead of images (Field and Welsh 2007), within the class of most of their images, so that a
    resample has as many groups of each class. If all resamples have the same score, the interval is the mean of the
    intervals of the classes' recalls at their effective sample sizes.
    """
    present = np.unique(labels)
    of_class, as_class = labels == present[:, None], predicted == present[:, None]
    # Of each group and class the images that are correct, predicted as it, and of it, [G, 3, K].
    indicators = np.stack([of_class & as_class, as_class, of_class])
    counts = np.asarray(summed(indicators, groups).transpose(2, 0, 1), dtype=np.int64)
    # A group belongs to the class of most of its images.
    strata = counts[:, 2].argmax(axis=1)
    drawn = _resampled(counts, strata, resamples, np.random.default_rng(seed))
    seen = _scores(counts.sum(axis=0))
    skew = _accelerations(counts, strata)
    spare = _mean_recall_interval(labels, predicted, groups, present)
    intervals = [
        bca(values, score, acceleration)
        if np.ptp(values) > 0
        else Interval(low=min(spare.low, score), high=max(spare.high, score))
        for values, score, acceleration in zip(drawn.T, seen.tolist(), skew, strict=True)
    ]
    return MacroIntervals(macro_f1=intervals[0], balanced_accuracy=intervals[1])


def _scores(counts: NDArray[np.int64]) -> Floats:
    """Return macro-F1 and balanced accuracy ``[..., 2]`` of counts ``[..., 3, K]``, over classes that have images."""
    right, predicted, support = (counts[..., kind, :] for kind in range(3))
    has = support > 0
    f1 = np.where(has, 2 * right / np.maximum(predicted + support, 1), 0.0)
    recall = np.where(has, right / np.maximum(support, 1), 0.0)
    # A resample may lack a class whose images all lie in groups of other classes.
    return np.asarray(np.stack([f1.sum(axis=-1), recall.sum(axis=-1)], axis=-1) / has.sum(axis=-1, keepdims=True))


def _resampled(
    counts: NDArray[np.int64], strata: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> Floats:
    """Return the scores ``[R, 2]`` of resamples of groups."""
    totals = np.zeros((resamples, *counts.shape[1:]), dtype=np.int64)
    for stratum in np.unique(strata):
        # Groups with the same counts are interchangeable; most groups are a single image, of which there are few kinds.
        patterns, times = np.unique(counts[strata == stratum], axis=0, return_counts=True)
        flat = patterns.reshape(len(patterns), -1)
        together = max(BATCH // len(patterns), 1)
        for start in range(0, resamples, together):
            rows = slice(start, min(start + together, resamples))
            weights = rng.multinomial(times.sum(), times / times.sum(), size=rows.stop - rows.start)
            totals[rows] += (weights @ flat).reshape(-1, *counts.shape[1:])
    return _scores(totals)


def _accelerations(counts: NDArray[np.int64], strata: NDArray[np.int64]) -> list[float]:
    """Return BCa's acceleration of both scores, from the changes that leaving out one group makes (jackknife)."""
    left = _scores(counts.sum(axis=0) - counts)
    totals = np.bincount(strata, minlength=counts.shape[2])
    accelerations = []
    for values in left.T:
        means = np.bincount(strata, values, minlength=len(totals)) / np.maximum(totals, 1)
        # Without the only group of a stratum, its classes may have no images: it has no influence to be compared.
        influence = np.where(totals[strata] > 1, means[strata] - values, 0.0)
        spread = float((influence**2).sum())
        accelerations.append(float((influence**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0)
    return accelerations


def _mean_recall_interval(
    labels: NDArray[np.integer], predicted: NDArray[np.integer], groups: Groups, present: NDArray[np.integer]
) -> Interval:
    intervals = [
        proportion_interval((predicted == labels)[labels == label], groups[labels == label])
        for label in present.tolist()
    ]
    low, high = (float(np.mean([getattr(interval, end) for interval in intervals])) for end in ("low", "high"))
    return Interval(low=low, high=high)
