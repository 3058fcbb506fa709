"""The minimum detectable difference of a test split at 80 % power, for the test that decides."""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from bench.stats.pairs import ALPHA, SEEDS_FOR_MODELS, Right, between_seeds, freedom, seed_variance

POWER: Final = 0.8

STEPS: Final = 1000
"""Differences are tried in steps of a tenth of a point."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """The minimum detectable ``difference`` at 80 % power (None: there is none), and for which models.

    ``disagreement`` is the share of images on which two models answer unlike (their mean squared difference, where
    there are several seeds): the more models disagree, the harder a difference is to find.
    """

    difference: float | None
    disagreement: float
    pairs: int
    images: int
    about_models: bool


def power_of(models: Sequence[Right]) -> Power | None:
    """Return what a table of models could have shown; None of fewer than two.

    At the level of Holm's first step (0.05 over the number of pairs), on as many images, with the disagreement that the
    pairs of these models show (median), by the test that decides between them.
    """
    rows, columns = np.triu_indices(len(models), 1)
    if len(rows) == 0:
        return None
    seeds, number = min(len(model) for model in models), models[0].shape[1]
    spread = _spread(models, rows, columns)
    difference = _detectable(models, spread, level=ALPHA / len(rows), seeds=seeds)
    return Power(
        difference=difference,
        disagreement=max(spread, difference or 0.0) if seeds == 1 else spread,
        pairs=len(rows),
        images=number,
        about_models=seeds >= SEEDS_FOR_MODELS,
    )


def _spread(models: Sequence[Right], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    means = np.stack([model.mean(axis=0, dtype=np.float64) for model in models])
    products = means @ means.T
    squares = np.diag(products)[:, None] + np.diag(products)[None, :] - 2 * products
    return max(float(np.median(squares[rows, columns]) / models[0].shape[1]), 0.0)


def _detectable(models: Sequence[Right], spread: float, *, level: float, seeds: int) -> float | None:
    number = models[0].shape[1]
    if seeds == 1:
        return least(lambda difference: mcnemar_power(difference, spread, number, level))
    if seeds < SEEDS_FOR_MODELS:
        return least(lambda difference: sign_flip_power(difference, spread, number, level))
    noise, between = (float(np.mean([part(model) for model in models])) for part in (seed_variance, between_seeds))
    uncertain = [(between, seeds)] * 2
    return least(lambda difference: welch_power(difference, spread, number, level, noise=noise, seeds=uncertain))


def least(power: Callable[[float], float]) -> float | None:
    """Find the least difference, in steps of 0.1 points, whose power is 0.8 or more; power must rise with it."""
    tried = range(1, STEPS + 1)
    place = bisect.bisect_left(tried, x=True, key=lambda step: power(step / STEPS) >= POWER)
    return tried[place] / STEPS if place < len(tried) else None


def mcnemar_power(difference: float, discordance: float, number: int, level: float) -> float:
    """Power of exact McNemar on ``number`` images, where models differ on a share ``discordance`` of them."""
    from scipy.stats import binom  # noqa: PLC0415 - a third of a second, and tables of several seeds do without

    discordance = max(discordance, difference)
    pairs = np.arange(number + 1)
    critical = binom.ppf(level / 2, pairs, 0.5)
    critical -= binom.cdf(critical, pairs, 0.5) > level / 2
    found = binom.cdf(critical, pairs, (discordance - difference) / (2 * discordance))
    return float((binom.pmf(pairs, number, discordance) * found).sum())


def sign_flip_power(difference: float, spread: float, number: int, level: float) -> float:
    """Power of the sign-flip test by its normal limit; ``spread`` is an image's mean squared difference."""
    if 2.0 ** (1 - number) > level:
        return 0.0
    spread = max(spread, difference)
    reach = difference * math.sqrt(number) - float(-ndtri(level / 2)) * math.sqrt(spread)
    remaining = spread - difference**2
    return float(ndtr(reach / math.sqrt(remaining))) if remaining > 0 else float(reach > 0)


def welch_power(  # noqa: PLR0913 - each is a term of the formula
    difference: float, spread: float, number: int, level: float, *, noise: float, seeds: Sequence[tuple[float, int]]
) -> float:
    """Power of the test over seeds and images; ``noise`` is what seeds add to the variance of a model's mean."""
    images = max(spread - difference**2, 0.0) / number
    variance = images + 2 * noise
    if variance == 0:
        return 1.0
    free = freedom(images, number, seeds)
    return 1.0 - float(nctdtr(free, difference / math.sqrt(variance), -stdtrit(free, level / 2)))
