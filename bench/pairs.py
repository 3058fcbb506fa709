"""Models compared in pairs on the same test images: who is told apart from whom; pure functions of arrays."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import binom, t

from bench.stats import Interval, mean_interval, paired_difference

ALPHA: Final = 0.05
"""The share of tables of equal models in which some pair may be told apart all the same."""
SEEDS_FOR_MODELS: Final = 5
"""From as many seeds on, a comparison speaks of models (what training gives), before that of these checkpoints."""

ENOUGH_DIFFERING: Final = 30
"""With fewer images on which two models differ, a t interval over images is too short."""

Right = NDArray[np.bool_]
"""Whether each checkpoint of a model (one a seed) is right on each test image, ``[S, N]``."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Second against first on the same images: the difference of accuracy, its 95 % interval, p and mid-p values.

    One checkpoint each: exact McNemar and its mid-p (Fagerland, Lydersen and Laake 2013), Tango's interval. More, but
    fewer than five: the test that flips the sign of an image's difference of mean correctness, which is exact McNemar
    where there is one (exact while both have as many seeds, nearly so elsewhere); t interval over images. Five and
    more: Welch's t with a third part of the variance, that of the images.
    """

    difference: float
    interval: Interval
    p_value: float
    mid_p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All pairs of some models: matrices ``[M, M]``, second index minus first, p values by Holm over all pairs."""

    differences: Floats
    p_values: Floats
    holm: Floats

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Say of each pair whether it is told apart."""
        return self.holm <= ALPHA


def speaks_of_models(*models: Right) -> bool:
    """Say whether there are seeds enough to speak of models instead of these checkpoints."""
    return min(len(model) for model in models) >= SEEDS_FOR_MODELS


def compare(first: Right, second: Right) -> Paired:
    """Compare two models on the same images."""
    change = _mean(second) - _mean(first)
    steps = math.lcm(len(first), len(second))
    flipped = _sign_flip(np.rint(change * steps).astype(np.int64))
    if speaks_of_models(first, second):
        return _welch(first, second, change, floor=flipped)
    return Paired(
        difference=float(change.mean()),
        interval=_agreeing(_interval(change, steps), flipped[0]),
        p_value=flipped[0],
        mid_p=flipped[1],
    )


def compare_all(models: Sequence[Right]) -> Comparison:
    """Compare every pair of models on the same images, with Holm's correction over all pairs."""
    number = len(models)
    means = np.stack([_mean(model) for model in models]) if models else np.zeros((0, 1))
    p_values = np.ones((number, number))
    rows, columns = np.triu_indices(number, 1)
    if len(rows) and all(len(model) == 1 for model in models):
        p_values[rows, columns] = _mcnemar_of(means)[rows, columns]
    else:
        p_values[rows, columns] = [
            compare(models[i], models[j]).p_value for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
    adjusted = np.ones((number, number))
    adjusted[rows, columns] = holm(p_values[rows, columns])
    accuracies = means.mean(axis=1)
    return Comparison(
        differences=accuracies[None, :] - accuracies[:, None],
        p_values=np.minimum(p_values, p_values.T),
        holm=np.minimum(adjusted, adjusted.T),
    )


def holm(p_values: Floats) -> Floats:
    """Adjust p values by Holm's step-down method (Holm 1979)."""
    if len(p_values) == 0:
        return p_values
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415 - a third of a second

    adjusted: Floats = multipletests(p_values, method="holm")[1]
    return adjusted


def tie_groups(accuracies: Sequence[float], apart: NDArray[np.bool_]) -> list[int]:
    """Give each model its group: 1 is all that cannot be told from the top score, 2 the same among the rest, ..."""
    waiting = sorted(range(len(accuracies)), key=lambda model: -accuracies[model])
    groups = [0] * len(waiting)
    number = 0
    while waiting:
        number += 1
        top = waiting[0]
        for model in [other for other in waiting if not apart[top, other]]:
            groups[model] = number
        waiting = [other for other in waiting if not groups[other]]
    return groups


def _mean(model: Right) -> Floats:
    return np.asarray(model.mean(axis=0, dtype=np.float64))


def _mcnemar_of(right: Floats) -> Floats:
    """Exact McNemar of all pairs of ``[M, N]`` at once."""
    gained = np.rint(right @ (1 - right).T)
    fewer, discordant = np.minimum(gained, gained.T), gained + gained.T
    p_values: Floats = np.minimum(2 * binom.cdf(fewer, discordant, 0.5), 1.0)
    return p_values


def _sign_flip(changes: NDArray[np.int64]) -> tuple[float, float]:
    """Give p and mid-p of a sum of integers, had each the other sign as easily; exact."""
    sizes, counts = np.unique(np.abs(changes[changes != 0]), return_counts=True)
    null = _null(tuple(zip(sizes.tolist(), counts.tolist(), strict=True)))
    reach = (int((sizes * counts).sum()) - abs(int(changes.sum()))) // 2
    below = float(null[: reach + 1].sum())
    return min(2 * below, 1.0), min(max(2 * below - float(null[reach]), 0.0), 1.0)


@functools.lru_cache(maxsize=4096)
def _null(sizes: tuple[tuple[int, int], ...]) -> Floats:
    """Distribution of the sum of the sizes that keep their sign: of each, a binomial number does."""
    null = np.ones(1)
    for size, count in sizes:
        part = np.zeros(size * count + 1)
        part[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        null = np.maximum(fftconvolve(null, part), 0.0)
    return null


def _agreeing(interval: Interval, p_value: float) -> Interval:
    """Let an interval hold 0 where the test does not exclude it."""
    if p_value <= ALPHA:
        return interval
    return Interval(low=min(interval.low, 0.0), high=max(interval.high, 0.0))


def _interval(change: Floats, steps: int) -> Interval:
    """95 % interval of a mean difference over images: t, or Tango's.

    Tango's where each difference is -1, 0 or 1, or where few images differ: parts of a difference then count together
    as whole ones, which errs on the long side.
    """
    if steps == 1 or np.count_nonzero(change) < ENOUGH_DIFFERING:
        gained, lost = (round(float(np.clip(side * change, 0, None).sum())) for side in (1, -1))
        return paired_difference(gained, lost, len(change))
    found = mean_interval(change)
    return Interval(low=max(found.low, -1.0), high=min(found.high, 1.0))


def seed_variance(model: Right) -> float:
    """Give the variance that seeds add to a model's mean accuracy; what images and seeds make together is not theirs.

    The variance component of a two-way layout (Searle, Casella and McCulloch 1992), not below 0.
    """
    together = float(model.var(axis=0, ddof=1).mean()) / model.size
    return max(between_seeds(model) - together, 0.0)


def between_seeds(model: Right) -> float:
    """Give the variance of a model's mean accuracy as its seeds differ, images and seeds together included."""
    return float(model.mean(axis=1).var(ddof=1)) / len(model)


def freedom(images: float, number: int, seeds: Sequence[tuple[float, int]]) -> float:
    """Give Satterthwaite's degrees of freedom of an images' part and seeds' parts, each with its number of seeds.

    The seeds' parts go in as they differ, uncorrected: the corrected ones, often 0, promise too many degrees.
    """
    parts = [(images, max(number - 1, 1)), *((part, count - 1) for part, count in seeds)]
    return float(sum(part for part, _ in parts) ** 2 / sum(part**2 / free for part, free in parts))


def _welch(first: Right, second: Right, change: Floats, *, floor: tuple[float, float]) -> Paired:
    """Welch's t over seeds with the images' part; never surer than the exact test of these checkpoints is."""
    images = float(change.var(ddof=1)) / len(change) if len(change) > 1 else 0.0
    variance = images + seed_variance(first) + seed_variance(second)
    difference = float(change.mean())
    if variance == 0:
        return Paired(difference=difference, interval=_interval(change, 1), p_value=floor[0], mid_p=floor[1])
    free = freedom(images, len(change), [(between_seeds(model), len(model)) for model in (first, second)])
    p_value = 2 * float(t.sf(abs(difference) / math.sqrt(variance), free))
    reach = float(t.ppf(0.975, free)) * math.sqrt(variance)
    return Paired(
        difference=difference,
        interval=_agreeing(
            Interval(low=max(difference - reach, -1.0), high=min(difference + reach, 1.0)), max(p_value, floor[0])
        ),
        p_value=max(p_value, floor[0]),
        mid_p=max(p_value, floor[1]),
    )
