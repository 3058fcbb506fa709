"""Groups of test images that are not independent, and seeds: variances, effective sample sizes, and intervals.

Pure functions. ``groups`` ``[N]`` holds the group of each image; None, or a group for each image, means that all images
are independent, and every function then returns what its counterpart for independent images does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtrit

from bench.stats.intervals import Interval, wilson_interval

Groups = NDArray[np.integer[Any]]

Floats = NDArray[np.float64]

Checkpoints = NDArray[np.bool_] | Floats
"""Whether each checkpoint of a model (one per seed) is correct on each test image, or a loss, ``[S, N]``."""

PRIOR_SD: Final = 0.15
"""Standard deviation of the logit of accuracy between seeds where hardly any seeds show it: 1.35 pp at 90 %."""
LEAST_FREEDOM: Final = 3
"""Degrees of freedom of the seeds' component, below which the prior has the weight of those that are missing."""


def meaningful(groups: Groups | None) -> Groups | None:
    """Return the groups, or None if every image is alone."""
    # Nearly always numbers in ascending order, for which no set of a million numbers is needed.
    if groups is None or bool((groups[1:] > groups[:-1]).all()) or len(np.unique(groups)) == len(groups):
        return None
    return groups


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
    effect = variance_of_mean(values, groups) / np.where(alone > 0, alone, 1.0)
    # A small sample may show less variance between groups than there is; that must not lengthen the data.
    return np.where(alone > 0, np.maximum(effect, 1.0), _of_copies(groups))


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
    interval = wilson_interval(share * size, size, confidence=confidence)
    return Interval(low=min(interval.low, share), high=max(interval.high, share))


def seed_variance(model: Checkpoints, groups: Groups | None = None) -> float:
    """Return the variance that seeds alone add to a model's mean over images, without their interaction with images.

    The variance component of a two-way layout (Searle, Casella and McCulloch 1992), truncated at 0.
    """
    # The interaction is already part of the variance over images, and would be counted twice.
    own = _share_of_seeds(groups, len(model[0]))
    return max(between_seeds(model) - _of_images(model, groups), 0.0) / own if own else 0.0


def _share_of_seeds(groups: Groups | None, images: int) -> float:
    """Return the share of the seeds' own variance that is left when the part that images explain is subtracted.

    That part contains some of it: 1 of the number of images, and more where groups are few or uneven.
    """
    sizes = summed(np.ones(images), groups)
    return 1.0 - float(np.square(sizes / images).sum())


def _of_images(model: Checkpoints, groups: Groups | None) -> float:
    """Return the part of the variance between seeds' means, over their number, that images (or groups) explain."""
    return float(summed(model, groups).var(axis=0, ddof=1).sum()) / (model.size * len(model[0]))


def between_seeds(model: Checkpoints) -> float:
    """Return the variance of a model's mean over its seeds, their interaction with images included."""
    return float(model.mean(axis=1).var(ddof=1)) / len(model)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedComponent:
    """The variance of the logit of a model's accuracy between seeds, which all models are assumed to share.

    ``mean_square`` is its estimate before the part of images is subtracted, and ``freedom`` its degrees of freedom.
    """

    variance: float
    mean_square: float
    freedom: float
    observed: int
    """Degrees of freedom of the data; the prior has those of ``freedom`` beyond them."""


def seed_component(models: Sequence[Checkpoints], groups: Groups | None = None) -> SeedComponent | None:
    """Return the variance component of seeds, pooled over models ``[S, N]``; None if none has several seeds.

    The component of a two-way layout of images (or groups) and seeds (Searle, Casella and McCulloch 1992), on the logit
    scale by the delta method. With fewer than three degrees of freedom, ``PRIOR_SD`` has the weight of the others.
    """
    several = [model for model in models if len(model) > 1]
    parts = [len(model) * _of_images(model, groups) for model in several]
    own = _share_of_seeds(groups, len(several[0][0])) if several else 1.0
    return _pooled([model.mean(axis=1) for model in several], parts, own=own)


def component_of_values(models: Sequence[Floats]) -> SeedComponent | None:
    """Return the component of a score whose values by seed ``[S]`` are known for each model, and nothing by image.

    The interaction of seeds with images is not subtracted, so that the component is rather too large.
    """
    several = [values for values in models if len(values) > 1]
    return _pooled(several, [0.0] * len(several), own=1.0)


def _pooled(models: Sequence[Floats], parts: Sequence[float], *, own: float) -> SeedComponent | None:
    """Pool the variances of values by seed ``[S]``, each less the part of it that images explain.

    ``own`` is the share of the seeds' own variance that is left by that (``_share_of_seeds``).
    """
    if not models:
        return None
    freedoms = np.array([len(values) - 1 for values in models])
    # A ratio of sums: a model without errors has no logit, and adds 0 to both.
    scale = float(freedoms @ [_logit_scale(float(values.mean())) ** 2 for values in models])
    squares = float(freedoms @ [values.var(ddof=1) for values in models])
    left = (squares - float(freedoms @ np.array(parts))) / own if own else 0.0
    variance, mean_square = ((part / scale if scale else 0.0) for part in (left, squares))
    freedom, missing = float(freedoms.sum()), max(LEAST_FREEDOM - float(freedoms.sum()), 0.0)
    total = freedom + missing
    variance, mean_square = ((freedom * part + missing * PRIOR_SD**2) / total for part in (variance, mean_square))
    return SeedComponent(variance=max(variance, 0.0), mean_square=mean_square, freedom=total, observed=int(freedom))


def _logit_scale(share: float) -> float:
    """Return the derivative of a share with respect to its logit."""
    return share * (1 - share)


def repeated_interval(
    right: NDArray[np.bool_], groups: Groups | None, component: SeedComponent, *, confidence: float = 0.95
) -> Interval:
    """Return the interval of a model's expected accuracy over images and seeds, from its checkpoints ``[S, N]``.

    Wilson's for the images (or groups) and their interaction with seeds, extended by the seeds' component.
    """
    mean = right.mean(axis=0)
    size, share = effective_size(mean, groups, confidence=confidence), float(mean.mean())
    if 0 < share < 1:
        size /= _seed_effect(mean, groups)
    interval = wilson_interval(share * size, size, confidence=confidence)
    images = Interval(low=min(interval.low, share), high=max(interval.high, share))
    return over_images_and_seeds(share, images, component, len(right), confidence=confidence)


def over_images_and_seeds(
    share: float, images: Interval, component: SeedComponent, seeds: int, *, confidence: float = 0.95
) -> Interval:
    """Return the interval of a share over images and seeds, from the one over images.

    On the logit scale, each half of the interval over images and that of the seeds are added as squares; a t quantile
    with Satterthwaite's degrees of freedom takes the place of the normal one. At 0 and 100 % seeds show no variance,
    and it is the interval over images.
    """
    if not 0 < share < 1:
        return images
    tail, tiny = 0.5 + 0.5 * confidence, np.finfo(float).eps
    normal, centre = float(ndtri(tail)), float(logit(share))
    low, high = (float(logit(np.clip(end, tiny, 1 - tiny))) for end in (images.low, images.high))
    # By the estimate before the images' part is subtracted: one that is 0 would have too many degrees of freedom.
    squares, among = ((high - low) / (2 * normal)) ** 2, component.mean_square / seeds
    freedom = component.freedom * ((squares + among) / among) ** 2 if among else math.inf
    wider = float(stdtrit(freedom, tail)) / normal if math.isfinite(freedom) else 1.0
    reach = normal * math.sqrt(component.variance / seeds)
    ends = (centre - wider * math.hypot(centre - low, reach), centre + wider * math.hypot(high - centre, reach))
    return Interval(low=float(expit(ends[0])), high=float(expit(ends[1])))


def _seed_effect(mean: Floats, groups: Groups | None) -> float:
    """Return the variance of mean correctness ``[N]`` over that of a single checkpoint with the same accuracy.

    Of few exceptions it is uncertain: it is averaged with the value 1 of one more image, as in ``effective_size``.
    """
    kinds, times = np.unique(mean, return_counts=True)
    apart = mean != kinds[times.argmax()]
    exceptions = int(apart.sum()) if groups is None else len(np.unique(groups[apart]))
    effect = float(mean.var()) / _logit_scale(float(mean.mean()))
    return (exceptions * effect + 1) / (exceptions + 1)
