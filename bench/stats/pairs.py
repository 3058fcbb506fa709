"""Paired tests: which models differ significantly on the same test images. Pure functions of arrays.

``groups`` ``[N]`` is the group of each test image: images of one group are not independent, and the tests draw groups.
None: every image is a group of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtr, stdtrit

from bench.stats.groups import (
    Groups,
    between_seeds,
    effective_size,
    meaningful,
    number_of,
    seed_variance,
    summed,
    variance_of_mean,
)
from bench.stats.intervals import Interval, mean_interval, paired_difference
from bench.stats.sign_flips import AT_ONCE, sign_flip, sign_flips

ALPHA: Final = 0.05
"""Family-wise significance level of a table: bounds the probability that any two equal models are found to differ."""

SEEDS_FOR_MODELS: Final = 5
"""Minimum seeds for conclusions about models (any seed); with fewer, they hold for these checkpoints only."""

ENOUGH_DIFFERING: Final = 30
"""Images on which two models differ, below which a t interval over images is too short."""


Right = NDArray[np.bool_]
"""Whether each checkpoint of a model (one per seed) is correct on each test image, ``[S, N]``."""

Floats = NDArray[np.float64]

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """The accuracy of the first model minus that of the second (a fraction), its interval, p and mid-p values.

    The interval contains 0 if the p value is above its level, which is 5 % unless stated otherwise; if it is not, 0 is
    at most its bound.

    One checkpoint each: exact McNemar test with its mid-p value (Fagerland, Lydersen and Laake 2013), Tango's interval.
    Two to four seeds: sign-flip test of the images' differences of mean correctness, exact if both models have equally
    many seeds and else approximate (with one seed it equals the exact McNemar test); t interval over images. Five seeds
    and more: Welch's t test over seeds, with the images as a third component of the variance.

    With groups of images: sign-flip test of the groups' sums, variances over groups, and Tango's interval at the
    effective sample size.
    """

    difference: float
    interval: Interval
    p_value: float
    mid_p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseTests:
    """Tests of all pairs of M models, as matrices ``[M, M]``.

    ``differences`` are the accuracy of the first index minus that of the second; ``holm`` are the p values adjusted by
    Holm's method over all pairs.
    """

    differences: Floats
    p_values: Floats
    holm: Floats

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Whether each pair differs significantly ``[M, M]``."""
        return self.holm <= ALPHA


def speaks_of_models(*models: Right) -> bool:
    """Return whether all models have enough seeds for conclusions about models instead of these checkpoints."""
    return min(len(model) for model in models) >= SEEDS_FOR_MODELS


def compare_pair(first: Right, second: Right, groups: Groups | None = None, *, level: float = ALPHA) -> Paired:
    """Compare two models on the same images; ``level`` is that of the interval, which has confidence 1 - level."""
    change, groups = _mean(first) - _mean(second), meaningful(groups)
    # In units of one over the least common multiple of the seeds, every difference is an integer: the exact
    # distribution of a sum of integers can be enumerated.
    steps = math.lcm(len(first), len(second))
    flipped = sign_flip(summed(_whole(change, steps), groups))
    if speaks_of_models(first, second):
        return _welch(first, second, change, groups=groups, floor=flipped, level=level)
    return Paired(
        difference=float(change.mean()),
        interval=_agreeing(_interval(change, steps, groups, level), flipped[0], level),
        p_value=flipped[0],
        mid_p=flipped[1],
    )


def simultaneous(paired: Paired, adjusted: float) -> Interval:
    """Return the interval of a pair at level 0.05 over the number of pairs, in agreement with Holm's adjusted p value.

    The intervals of all pairs hold together with 95 % confidence. Holm's later steps reject where this level, that of
    its first step, does not: the bound then is 0 (Strassburger and Bretz 2008).
    """
    low, high = paired.interval.low, paired.interval.high
    if adjusted > ALPHA:
        return paired.interval
    return Interval(low=max(low, 0.0), high=high) if paired.difference > 0 else Interval(low=low, high=min(high, 0.0))


def compare_all(models: Sequence[Right], groups: Groups | None = None) -> PairwiseTests:
    """Test every pair of models on the same images, with Holm's correction over all pairs."""
    # Rank intervals read all pairs, so that all of them take part in the correction.
    number, groups = len(models), meaningful(groups)
    means = np.stack([_mean(model) for model in models]) if models else np.zeros((0, 1))
    p_values = np.ones((number, number))
    rows, columns = np.triu_indices(number, 1)
    # The usual table has one seed per row. Its tests need only the counts of discordant images, which one matrix
    # product gives for all pairs.
    if len(rows) and groups is None and all(len(model) == 1 for model in models):
        p_values[rows, columns] = _mcnemar_of(means)[rows, columns]
    elif len(rows):
        p_values[rows, columns] = _p_values(models, means, rows, columns, groups)
    adjusted = np.ones((number, number))
    adjusted[rows, columns] = holm(p_values[rows, columns])
    accuracies = means.mean(axis=1)
    return PairwiseTests(
        differences=accuracies[:, None] - accuracies[None, :],
        p_values=np.minimum(p_values, p_values.T),
        holm=np.minimum(adjusted, adjusted.T),
    )


def holm(p_values: Floats) -> Floats:
    """Adjust p values by Holm's step-down method (Holm 1979)."""
    # Not by statsmodels, whose correction collects garbage at every call, which takes tens of milliseconds.
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


def _mean(model: Right) -> Floats:
    return np.asarray(model.mean(axis=0, dtype=np.float64))


def _mcnemar_of(right: Floats) -> Floats:
    """Return the p values ``[M, M]`` of exact McNemar tests of all pairs of ``right`` ``[M, N]``."""
    # As floats, because numpy multiplies integer matrices without BLAS; counts are exact in float64 up to 2**53.
    gained = np.rint(right @ (1 - right).T)
    fewer, discordant = np.minimum(gained, gained.T), gained + gained.T
    p_values: Floats = np.minimum(2 * bdtr(fewer, discordant.astype(np.int64), 0.5), 1.0)
    return p_values


def _p_values(models: Sequence[Right], means: Floats, rows: Counts, columns: Counts, groups: Groups | None) -> Floats:
    """Return the p values of pairs of models, as ``compare_pair`` does but for many pairs at once."""
    seeds = np.array([len(model) for model in models])
    steps = np.lcm(seeds[rows], seeds[columns])
    of_models = np.minimum(seeds[rows], seeds[columns]) >= SEEDS_FOR_MODELS
    p_values = np.empty(len(rows))
    together = max(AT_ONCE // means.shape[1], 1)
    for start in range(0, len(rows), together):
        part = slice(start, start + together)
        change = means[rows[part]] - means[columns[part]]
        p_values[part] = sign_flips(summed(_whole(change, steps[part, None]), groups))[0]
        if not of_models[part].any():
            continue
        sure = _welch_p_values(models, change, rows[part], columns[part], groups)
        # As in ``compare_pair``: from five seeds on Welch's test decides, but not below the p value of the sign flips.
        p_values[part] = np.where(of_models[part], np.maximum(p_values[part], sure), p_values[part])
    return p_values


def _welch_p_values(
    models: Sequence[Right], change: Floats, rows: Counts, columns: Counts, groups: Groups | None
) -> Floats:
    """Return Welch's p values of pairs of models with differences ``change`` ``[P, N]``; 0 without any variance.

    The caller takes the maximum with the sign-flip test's p value, so that 0 leaves the decision to that test.
    """
    images, differences = variance_of_mean(change, groups), change.mean(axis=1)
    number = number_of(groups, change.shape[1])
    # With a single seed the variance over seeds is not defined (division by 0); such pairs are not decided here.
    several = [len(model) >= SEEDS_FOR_MODELS for model in models]
    noise, between = (
        np.array([part(model) if enough else 0.0 for model, enough in zip(models, several, strict=True)])
        for part in (partial(seed_variance, groups=groups), between_seeds)
    )
    free = np.array([max(len(model) - 1, 1) for model in models])
    variance = images + noise[rows] + noise[columns]
    squares = images**2 / max(number - 1, 1) + (between**2 / free)[rows] + (between**2 / free)[columns]
    defined = (variance > 0) & (squares > 0)
    freedom_of = (images + between[rows] + between[columns]) ** 2 / np.where(defined, squares, 1.0)
    scaled = np.abs(differences) / np.sqrt(np.where(defined, variance, 1.0))
    return np.where(defined, 2 * stdtr(np.where(defined, freedom_of, 1.0), -scaled), 0.0)


def _whole(change: Floats, steps: int | Counts) -> Counts:
    """Return differences of mean correctness as integers, in units of ``1 / steps``."""
    return np.rint(change * steps).astype(np.int64)


def _agreeing(interval: Interval, p_value: float, level: float) -> Interval:
    """Move the nearer bound of an interval to 0 if the interval contains 0 although the test rejects it, or lacks it.

    Test and interval are computed by different methods and may disagree near the threshold; the test decides.
    """
    if p_value > level:
        return Interval(low=min(interval.low, 0.0), high=max(interval.high, 0.0))
    if interval.low < 0 < interval.high:
        nearer = -interval.low < interval.high
        return Interval(low=0.0, high=interval.high) if nearer else Interval(low=interval.low, high=0.0)
    return interval


def _interval(change: Floats, steps: int, groups: Groups | None, level: float) -> Interval:
    """Return the interval of a mean difference over images: Tango's, or a t interval.

    Tango's if each difference is -1, 0 or 1, or if few groups differ. In the second case fractional differences are
    added up to whole images, which makes the interval conservative.
    """
    if steps == 1 or np.count_nonzero(summed(change, groups)) < ENOUGH_DIFFERING:
        gained, lost = (round(float(np.clip(side * change, 0, None).sum())) for side in (1, -1))
        scale = effective_size(change, groups) / len(change)
        return paired_difference(scale * gained, scale * lost, scale * len(change), confidence=1 - level)
    if groups is None:
        interval = mean_interval(change, confidence=1 - level)
    else:
        mean, error = float(change.mean()), math.sqrt(float(variance_of_mean(change, groups)))
        reach = float(stdtrit(number_of(groups, len(change)) - 1, 1 - level / 2)) * error
        interval = Interval(low=mean - reach, high=mean + reach)
    # A t interval is not bounded, but a difference between accuracies is.
    return Interval(low=max(interval.low, -1.0), high=min(interval.high, 1.0))


def freedom(images: float, number: int, seeds: Sequence[tuple[float, int]]) -> float:
    """Return Satterthwaite's degrees of freedom of a variance of images and of seeds.

    ``seeds`` holds (variance, number of seeds) of each model. These variances are those of ``between_seeds``: the ones
    of ``seed_variance`` are often 0 and would give too many degrees of freedom.
    """
    parts = [(images, max(number - 1, 1)), *((part, count - 1) for part, count in seeds)]
    return float(sum(part for part, _ in parts) ** 2 / sum(part**2 / free for part, free in parts))


def _welch(  # noqa: PLR0913 - two models, and how they are compared
    first: Right, second: Right, change: Floats, *, groups: Groups | None, floor: tuple[float, float], level: float
) -> Paired:
    """Compare models by Welch's t test over seeds and images.

    ``floor`` are the p and mid-p values of the exact test of these checkpoints: a conclusion about models may not be
    more significant than the one about their checkpoints.
    """
    images = float(variance_of_mean(change, groups))
    variance = images + seed_variance(first, groups) + seed_variance(second, groups)
    difference = float(change.mean())
    # Without any variance (one image, or the same difference everywhere) the statistic is not defined.
    if variance == 0:
        interval = _interval(change, 1, groups, level)
        return Paired(difference=difference, interval=interval, p_value=floor[0], mid_p=floor[1])
    free = freedom(
        images, number_of(groups, len(change)), [(between_seeds(model), len(model)) for model in (first, second)]
    )
    p_value = 2 * float(stdtr(free, -abs(difference) / math.sqrt(variance)))
    reach = float(stdtrit(free, 1 - level / 2)) * math.sqrt(variance)
    interval = Interval(low=max(difference - reach, -1.0), high=min(difference + reach, 1.0))
    p_value, mid_p = max(p_value, floor[0]), max(p_value, floor[1])
    return Paired(difference=difference, interval=_agreeing(interval, p_value, level), p_value=p_value, mid_p=mid_p)
