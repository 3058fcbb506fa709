"""What more data would show: the minimum detectable difference of a test split, and the sources of uncertainty."""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from bench.stats.groups import (
    Groups,
    between_seeds,
    design_effect,
    meaningful,
    number_of,
    seed_variance,
    summed,
    variance_of_mean,
)
from bench.stats.pairs import ALPHA, SEEDS_FOR_MODELS, Right, freedom
from bench.stats.sign_flips import AT_ONCE

POWER: Final = 0.8

MORE: Final = 10
"""Factor of images or of seeds for which the uncertainty is stated."""

STEPS: Final = 1000
"""Steps from 0 to 100 percentage points: differences are resolved to 0.1 percentage points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """The minimum detectable ``difference`` at 80 % power (a fraction; None if no difference reaches that power).

    ``disagreement`` is the share of images on which one of two models is correct and the other is not (with several
    seeds the mean squared difference of their mean correctness): the larger it is, the lower is the power.
    """

    difference: float | None
    disagreement: float
    pairs: int
    images: int
    groups: int
    about_models: bool


def power_of(models: Sequence[Right], groups: Groups | None = None, *, tests: int | None = None) -> Power | None:
    """Return the minimum detectable difference of a table of models, or None if there are fewer than two.

    It holds for the test that decides between these models, on as many images, at the level of Holm's first step (0.05
    over the number of pairs), and for the median disagreement of the pairs. ``groups`` ``[N]`` is the group of each
    image; with groups, for the median of the pairs' effective sample sizes. ``tests`` is the number of tests that are
    corrected together; None: one for each pair.
    """
    rows, columns = np.triu_indices(len(models), 1)
    if len(rows) == 0:
        return None
    # The first step is the strictest: later ones depend on how many pairs are significant, which is not known before.
    # With unequal numbers of seeds, the row with the fewest determines the test and so the statement.
    seeds, number, groups = min(len(model) for model in models), models[0].shape[1], meaningful(groups)
    spread = _spread(models, rows, columns)
    level = ALPHA / (tests or len(rows))
    difference = _detectable(models, spread, groups, level=level, number=_effective(models, groups))
    return Power(
        difference=difference,
        # Two checkpoints that differ by ``difference`` disagree on at least that share of the images; this is also the
        # disagreement that ``mcnemar_power`` assumed.
        disagreement=max(spread, difference or 0.0) if seeds == 1 else spread,
        pairs=len(rows),
        images=number,
        groups=number_of(groups, number),
        about_models=seeds >= SEEDS_FOR_MODELS,
    )


def _spread(models: Sequence[Right], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """Return the mean squared difference of correctness of two models, the median over pairs."""
    # From inner products, as the differences of all pairs would take an array [pairs, N]. A median, because a single
    # weak model disagrees with all others and would raise the mean.
    means = np.stack([model.mean(axis=0, dtype=np.float64) for model in models])
    products = means @ means.T
    squares = np.diag(products)[:, None] + np.diag(products)[None, :] - 2 * products
    # The subtraction may leave a negative rounding error for equal models.
    return max(float(np.median(squares[rows, columns]) / models[0].shape[1]), 0.0)


def _effective(models: Sequence[Right], groups: Groups | None) -> int:
    """Return the effective number of images for a difference of two models, by the median design effect of pairs."""
    images = len(models[0][0])
    if groups is None:
        return images
    rows, columns = np.triu_indices(len(models), 1)
    means = np.stack([model.mean(axis=0, dtype=np.float64) for model in models])
    together = max(AT_ONCE // images, 1)
    effects = [
        design_effect(means[columns[start : start + together]] - means[rows[start : start + together]], groups)
        for start in range(0, len(rows), together)
    ]
    return max(round(images / float(np.median(np.concatenate(effects)))), 1)


def _detectable(
    models: Sequence[Right], spread: float, groups: Groups | None, *, level: float, number: int
) -> float | None:
    seeds = min(len(model) for model in models)
    if seeds < SEEDS_FOR_MODELS and groups is not None:
        count = number_of(groups, len(groups))
        return least(lambda difference: grouped_power(difference, spread, number, level, groups=count, seeds=seeds))
    if seeds == 1:
        return least(lambda difference: mcnemar_power(difference, spread, number, level))
    if seeds < SEEDS_FOR_MODELS:
        return least(lambda difference: sign_flip_power(difference, spread, number, level, seeds=seeds))
    noise = float(np.mean([seed_variance(model, groups) for model in models]))
    between = float(np.mean([between_seeds(model) for model in models]))
    uncertain = [(between, seeds)] * 2
    return least(lambda difference: welch_power(difference, spread, number, level, noise=noise, seeds=uncertain))


def least(power: Callable[[float], float]) -> float | None:
    """Return the smallest difference, in steps of 0.1 percentage points, whose power is 0.8 or more; None if none has.

    ``power`` must not decrease with the difference: the search is a bisection, with 10 evaluations instead of 1,000.
    """
    tried = range(1, STEPS + 1)
    index = bisect.bisect_left(tried, x=True, key=lambda step: power(step / STEPS) >= POWER)
    return tried[index] / STEPS if index < len(tried) else None


def mcnemar_power(difference: float, discordance: float, number: int, level: float) -> float:
    """Return the power of the exact McNemar test on ``number`` images, a share ``discordance`` of them discordant."""
    from scipy.stats import binom  # noqa: PLC0415 - takes a third of a second; tables of several seeds do not need it

    discordance = max(discordance, difference)
    # The number of discordant images is random too: the power is the mean over its binomial distribution.
    pairs = np.arange(number + 1)
    critical = binom.ppf(level / 2, pairs, 0.5)
    # ppf returns the first count that reaches the level; the test rejects only up to the last one within it.
    critical -= binom.cdf(critical, pairs, 0.5) > level / 2
    powers = binom.cdf(critical, pairs, (discordance - difference) / (2 * discordance))
    return float((binom.pmf(pairs, number, discordance) * powers).sum())


def sign_flip_power(difference: float, spread: float, number: int, level: float, *, seeds: int) -> float:
    """Return the power of the sign-flip test by its normal approximation.

    ``spread`` is the mean squared difference of an image's mean correctness over ``seeds`` checkpoints.
    """
    # The smallest p value, when all signs agree: with so few images no difference is significant.
    if 2.0 ** (1 - number) > level:
        return 0.0
    # Differences of an image are multiples of one over the seeds: their squares are on average at least this large.
    spread = max(spread, difference / seeds, difference**2)
    reach = difference * math.sqrt(number) - float(-ndtri(level / 2)) * math.sqrt(spread)
    # Under the null hypothesis the variance of an image's difference is ``spread``, under the alternative it is less.
    remaining = spread - difference**2
    return float(ndtr(reach / math.sqrt(remaining))) if remaining > 0 else float(reach > 0)


def grouped_power(  # noqa: PLR0913 - the terms of the formula
    difference: float, spread: float, number: int, level: float, *, groups: int, seeds: int
) -> float:
    """Return the power of the sign-flip test of ``groups`` groups, by that of the t test of their sums.

    ``number`` is the effective number of images. The statistic of sign flips, a sum over the root of the sum of
    squares, is a monotone function of Student's t.
    """
    if 2.0 ** (1 - groups) > level:
        return 0.0
    # As in ``sign_flip_power``; without any variance, every group shows the difference.
    remaining = max(spread, difference / seeds, difference**2) - difference**2
    if remaining <= 0:
        return 1.0
    centre = difference * math.sqrt(number / remaining)
    return 1.0 - float(nctdtr(groups - 1, centre, -stdtrit(groups - 1, level / 2)))


def welch_power(  # noqa: PLR0913 - the terms of the formula
    difference: float, spread: float, number: int, level: float, *, noise: float, seeds: Sequence[tuple[float, int]]
) -> float:
    """Return the power of Welch's t test over seeds and images; ``noise`` is the variance that seeds add to a mean."""
    images = max(spread - difference**2, 0.0) / number
    variance = images + 2 * noise
    if variance == 0:
        return 1.0
    free = freedom(images, number, seeds)
    # One side of the two-sided test: a significant difference in the wrong direction is no detection.
    return 1.0 - float(nctdtr(free, difference / math.sqrt(variance), -stdtrit(free, level / 2)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where the uncertainty of a difference comes from, as shares of its variance that sum to 1.

    ``both`` is from which images the checkpoint of a seed gets right: it falls with more images and with more seeds.
    ``half_width`` is that of the 95 % interval for models (any seed), ``with_images`` and ``with_seeds`` with ten times
    as many of either, by the normal distribution.
    """

    images: float
    seeds: float
    both: float
    half_width: float
    with_images: float
    with_seeds: float


def sources_of(first: Right, second: Right, groups: Groups | None = None) -> Sources | None:
    """Return the variance components of the difference of two models with several seeds each; None without variance.

    The components of a two-way layout of images (or groups) and seeds (Searle, Casella and McCulloch 1992).
    """
    models = (first, second)
    if min(len(model) for model in models) == 1:
        return None
    groups = meaningful(groups)
    change = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    # The variance over images of a mean over seeds holds the interaction too.
    over_images = float(variance_of_mean(change, groups))
    both = min(sum(max(between_images(model, groups), 0.0) for model in models), over_images)
    seeds = sum(seed_variance(model, groups) for model in models)
    total = over_images + seeds
    if total == 0:
        return None
    images, z = over_images - both, float(ndtri(0.975))
    return Sources(
        images=images / total,
        seeds=seeds / total,
        both=both / total,
        half_width=z * math.sqrt(total),
        with_images=z * math.sqrt(over_images / MORE + seeds),
        with_seeds=z * math.sqrt(images + (both + seeds) / MORE),
    )


def between_images(model: Right, groups: Groups | None) -> float:
    """Return the variance of a model's mean from the interaction of its seeds with images (or groups)."""
    # Of a seed's differences to the mean over seeds, image by image; less its own mean, which is the seed's effect.
    residual = model - model.mean(axis=0, keepdims=True, dtype=np.float64)
    residual = residual - residual.mean(axis=1, keepdims=True)
    seeds, images = model.shape
    return float(np.square(summed(residual, groups)).sum() / ((seeds - 1) * seeds * images**2))
