"""Groups of test images that are not independent: sums by group, variances, and effective sample sizes.

Pure functions. ``groups`` ``[N]`` holds the group of each image; None, or a group for each image, means that all images
are independent, and every function then returns what its counterpart for independent images does.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from bench.stats.intervals import Interval, wilson_interval

Groups = NDArray[np.integer[Any]]

Floats = NDArray[np.float64]


def meaningful(groups: Groups | None) -> Groups | None:
    """Return the groups, or None if every image is alone."""
    return None if groups is None or len(np.unique(groups)) == len(groups) else groups


def number_of(groups: Groups | None, images: int) -> int:
    """Return the number of independent groups of ``images`` images."""
    return images if groups is None else len(np.unique(groups))


def summed(values: NDArray[Any], groups: Groups | None) -> NDArray[Any]:
    """Return the sums by group ``[..., G]`` of values of images ``[..., N]``."""
    if groups is None:
        return values
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    # Booleans would be combined by "or" instead of being counted.
    counted = values.astype(np.int64) if values.dtype == bool else values
    return np.asarray(np.add.reduceat(counted[..., order], starts, axis=-1))


def variance_of_mean(values: NDArray[Any], groups: Groups | None) -> Floats:
    """Return the estimated variance ``[...]`` of the mean of values ``[..., N]`` of which groups are drawn.

    The linearised variance of a ratio of totals over clusters (Cochran 1977, 6.13); 0 for a single group.
    """
    number = values.shape[-1]
    sizes = summed(np.ones(number), groups)
    if len(sizes) == 1:
        return np.zeros(values.shape[:-1])
    left = summed(values.astype(np.float64), groups) - values.mean(axis=-1, keepdims=True) * sizes
    return np.asarray(len(sizes) / (len(sizes) - 1) * (left**2).sum(axis=-1) / number**2)


def design_effect(values: NDArray[Any], groups: Groups | None) -> Floats:
    """Return the variance of the mean over that of independent images ``[...]``, at least 1 (Kish 1965).

    If all values are equal, it is that of groups of copies.
    """
    if groups is None:
        return np.ones(values.shape[:-1])
    alone = values.var(axis=-1, ddof=1) / values.shape[-1]
    found = variance_of_mean(values, groups) / np.where(alone > 0, alone, 1.0)
    # A small sample may show less variance between groups than there is; that must not lengthen the data.
    return np.where(alone > 0, np.maximum(found, 1.0), _of_copies(groups))


def _of_copies(groups: Groups) -> float:
    """Return the design effect of groups whose images are all alike."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float((sizes**2).sum()) / len(groups)


def effective_size(values: NDArray[Any], groups: Groups | None, *, confidence: float = 0.95) -> float:
    """Return the number of independent images on which a mean of values ``[N]`` is as certain as on these.

    It is reduced further for the degrees of freedom of few groups, as Korn and Graubard (1998) do, so that intervals
    with normal quantiles remain valid. The design effect of few exceptions (the errors of an accurate model) is
    uncertain: it is averaged with that of one more group, of copies.
    """
    number = len(values)
    if groups is None:
        return float(number)
    count = number_of(groups, number)
    if count == 1:
        return 1.0
    tail = 0.5 + 0.5 * confidence
    few = float((ndtri(tail) / stdtrit(count - 1, tail)) ** 2)
    kinds, times = np.unique(values, return_counts=True)
    exceptions = len(np.unique(groups[values != kinds[times.argmax()]]))
    effect = (exceptions * float(design_effect(values, groups)) + _of_copies(groups)) / (exceptions + 1)
    return max(number / effect * few, 1.0)


def proportion_interval(values: NDArray[Any], groups: Groups | None, *, confidence: float = 0.95) -> Interval:
    """Return the interval of a mean of values in [0, 1] ``[N]``: Wilson's at the effective sample size."""
    size, share = effective_size(values, groups, confidence=confidence), float(values.mean())
    found = wilson_interval(share * size, size, confidence=confidence)
    return Interval(low=min(found.low, share), high=max(found.high, share))
