"""Models compared in pairs on the same test images: which differ significantly; pure functions of arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtr, stdtrit

from bench.stats.intervals import Interval, mean_interval, paired_difference

ALPHA: Final = 0.05
"""The share of tables of equal models in which some pair may nevertheless be found different."""

SEEDS_FOR_MODELS: Final = 5
"""From as many seeds on, a comparison speaks of models (what training gives), before that of these checkpoints."""

ENOUGH_DIFFERING: Final = 30
"""With fewer images on which two models differ, a t interval over images is too short."""

AT_ONCE: Final = 4_000_000
"""Numbers of one array, where all pairs are worked on together: 32 MB."""

Right = NDArray[np.bool_]
"""Whether each checkpoint of a model (one a seed) is right on each test image, ``[S, N]``."""

Floats = NDArray[np.float64]

Counts = NDArray[np.int64]

LEAST_COSINE: Final = 1e-300
"""Stands for 0, which has no logarithm."""


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
class PairwiseTests:
    """All pairs of some models: matrices ``[M, M]``, second index minus first, p values by Holm over all pairs."""

    differences: Floats
    p_values: Floats
    holm: Floats

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Whether each pair differs significantly ``[M, M]``."""
        return self.holm <= ALPHA


def speaks_of_models(*models: Right) -> bool:
    """Return whether there are seeds enough to speak of models instead of these checkpoints."""
    return min(len(model) for model in models) >= SEEDS_FOR_MODELS


def compare_pair(first: Right, second: Right) -> Paired:
    """Compare two models on the same images."""
    change = _mean(second) - _mean(first)
    steps = math.lcm(len(first), len(second))
    flipped = _sign_flip(_whole(change, steps))
    if speaks_of_models(first, second):
        return _welch(first, second, change, floor=flipped)
    return Paired(
        difference=float(change.mean()),
        interval=_agreeing(_interval(change, steps), flipped[0]),
        p_value=flipped[0],
        mid_p=flipped[1],
    )


def compare_all(models: Sequence[Right]) -> PairwiseTests:
    """Compare every pair of models on the same images, with Holm's correction over all pairs."""
    number = len(models)
    means = np.stack([_mean(model) for model in models]) if models else np.zeros((0, 1))
    p_values = np.ones((number, number))
    rows, columns = np.triu_indices(number, 1)
    if len(rows) and all(len(model) == 1 for model in models):
        p_values[rows, columns] = _mcnemar_of(means)[rows, columns]
    elif len(rows):
        p_values[rows, columns] = _p_values(models, means, rows, columns)
    adjusted = np.ones((number, number))
    adjusted[rows, columns] = holm(p_values[rows, columns])
    accuracies = means.mean(axis=1)
    return PairwiseTests(
        differences=accuracies[None, :] - accuracies[:, None],
        p_values=np.minimum(p_values, p_values.T),
        holm=np.minimum(adjusted, adjusted.T),
    )


def holm(p_values: Floats) -> Floats:
    """Adjust p values by Holm's step-down method (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(adjusted, 1.0)


def _mean(model: Right) -> Floats:
    return np.asarray(model.mean(axis=0, dtype=np.float64))


def _mcnemar_of(right: Floats) -> Floats:
    """Exact McNemar of all pairs of ``[M, N]`` at once."""
    gained = np.rint(right @ (1 - right).T)
    fewer, discordant = np.minimum(gained, gained.T), gained + gained.T
    p_values: Floats = np.minimum(2 * bdtr(fewer, discordant.astype(np.int64), 0.5), 1.0)
    return p_values


def _p_values(models: Sequence[Right], means: Floats, rows: Counts, columns: Counts) -> Floats:
    """Return the p values of pairs of models as ``compare`` does, all of one kind at once."""
    seeds = np.array([len(model) for model in models])
    steps = np.lcm(seeds[rows], seeds[columns])
    of_models = np.minimum(seeds[rows], seeds[columns]) >= SEEDS_FOR_MODELS
    p_values = np.empty(len(rows))
    together = max(AT_ONCE // means.shape[1], 1)
    for start in range(0, len(rows), together):
        part = slice(start, start + together)
        change = means[columns[part]] - means[rows[part]]
        p_values[part] = _sign_flips(_whole(change, steps[part, None]))[0]
        spread = change.var(axis=1, ddof=1) if change.shape[1] > 1 else np.zeros(len(change))
        sure = _welch_p_values(models, change.mean(axis=1), spread / change.shape[1], rows[part], columns[part])
        p_values[part] = np.where(of_models[part], np.maximum(p_values[part], sure), p_values[part])
    return p_values


def _welch_p_values(
    models: Sequence[Right], differences: Floats, images: Floats, rows: Counts, columns: Counts
) -> Floats:
    """Return Welch's p values of pairs of models; 0, which any other test exceeds, where nothing varies."""
    number = models[0].shape[1]
    several = [len(model) >= SEEDS_FOR_MODELS for model in models]
    noise, between = (
        np.array([part(model) if enough else 0.0 for model, enough in zip(models, several, strict=True)])
        for part in (seed_variance, between_seeds)
    )
    free = np.array([max(len(model) - 1, 1) for model in models])
    variance = images + noise[rows] + noise[columns]
    squares = images**2 / max(number - 1, 1) + (between**2 / free)[rows] + (between**2 / free)[columns]
    known = (variance > 0) & (squares > 0)
    freedom_of = (images + between[rows] + between[columns]) ** 2 / np.where(known, squares, 1.0)
    scaled = np.abs(differences) / np.sqrt(np.where(known, variance, 1.0))
    return np.where(known, 2 * stdtr(np.where(known, freedom_of, 1.0), -scaled), 0.0)


def _whole(change: Floats, steps: int | Counts) -> Counts:
    """Return differences of mean correctness as whole numbers of checkpoints."""
    return np.rint(change * steps).astype(np.int64)


def _sign_flip(changes: Counts) -> tuple[float, float]:
    """Return p and mid-p of a sum of integers ``[N]``, had each the other sign as easily; exact."""
    if np.abs(changes).max(initial=0) <= 1:  # McNemar: to the last digit, however small
        gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
        below = float(bdtr(min(gained, lost), gained + lost, 0.5))
        at = below - float(bdtr(min(gained, lost) - 1, gained + lost, 0.5)) if min(gained, lost) else below
        return min(2 * below, 1.0), min(2 * below - at, 1.0)
    p_values, mid_p = _sign_flips(changes[None])
    return float(p_values[0]), float(mid_p[0])


def _sign_flips(changes: Counts) -> tuple[Floats, Floats]:
    """Return p and mid-p of each row's sum of integers ``[P, N]``, had each the other sign as easily."""
    sizes = np.abs(changes)
    sums, reach = sizes.sum(axis=1), (sizes.sum(axis=1) - np.abs(changes.sum(axis=1))) // 2
    p_values, mid_p = np.ones(len(changes)), np.ones(len(changes))
    together = max(AT_ONCE // (int(sums.max(initial=0)) + 1), 1)
    for start in range(0, len(changes), together):
        part = slice(start, start + together)
        null = _null(sizes[part])
        below = np.cumsum(null, axis=1)[np.arange(len(null)), reach[part]]
        p_values[part] = np.minimum(2 * below, 1.0)
        mid_p[part] = np.clip(2 * below - null[np.arange(len(null)), reach[part]], 0.0, p_values[part])
    return p_values, mid_p


def _null(sizes: Counts) -> Floats:
    """Return the distribution of the sum of the sizes that keep their sign, each as easily as not ``[P, L]``.

    By its Fourier transform, the product over sizes s of ((1 + exp(i s x)) / 2) ** (number of that size): centred on
    half the sum of all sizes, its factors are cosines, so that products over images are sums of logarithms.
    """
    totals = sizes.sum(axis=1)
    length = 1 << int(totals.max(initial=0)).bit_length()  # of this length a Fourier transform is fast
    roots = np.exp(-1j * np.pi / length * np.arange(2 * length))
    number, most = len(sizes), int(sizes.max(initial=0)) + 1
    each = np.bincount((np.arange(number)[:, None] * most + sizes).ravel(), minlength=number * most)
    present = np.unique(sizes[sizes > 0])
    counts = each.reshape(number, most)[:, present].astype(np.float64)
    shape = np.empty((len(sizes), length // 2 + 1))
    together = max(AT_ONCE // max(len(present), 1), 1)
    for start in range(0, shape.shape[1], together):
        steps = np.arange(start, min(start + together, shape.shape[1]))
        cosines = roots.real[np.outer(present, steps) % (2 * length)]
        size = np.exp(counts @ np.log(np.maximum(np.abs(cosines), LEAST_COSINE)))
        shape[:, steps] = size * (1 - 2 * (counts @ (cosines < 0) % 2))
    moved = shape * roots[np.outer(totals, np.arange(shape.shape[1])) % (2 * length)]
    return np.maximum(np.fft.irfft(moved, length, axis=1), 0.0)


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
    """Return the variance that seeds add to a model's mean accuracy; what images and seeds make together is not theirs.

    The variance component of a two-way layout (Searle, Casella and McCulloch 1992), not below 0.
    """
    together = float(model.var(axis=0, ddof=1).mean()) / model.size
    return max(between_seeds(model) - together, 0.0)


def between_seeds(model: Right) -> float:
    """Return the variance of a model's mean accuracy as its seeds differ, images and seeds together included."""
    return float(model.mean(axis=1).var(ddof=1)) / len(model)


def freedom(images: float, number: int, seeds: Sequence[tuple[float, int]]) -> float:
    """Return Satterthwaite's degrees of freedom of an images' part and seeds' parts, each with its number of seeds.

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
    p_value = 2 * float(stdtr(free, -abs(difference) / math.sqrt(variance)))
    reach = float(stdtrit(free, 0.975)) * math.sqrt(variance)
    return Paired(
        difference=difference,
        interval=_agreeing(
            Interval(low=max(difference - reach, -1.0), high=min(difference + reach, 1.0)), max(p_value, floor[0])
        ),
        p_value=max(p_value, floor[0]),
        mid_p=max(p_value, floor[1]),
    )
