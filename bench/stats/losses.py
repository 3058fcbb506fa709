"""Paired tests of log loss, a finer comparison than accuracy. Pure functions of arrays.

``losses`` are those of the checkpoints of a model (one per seed) on each test image, in nats, ``[S, N]``; ``groups``
``[N]`` is the group of each image, None if all are independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from bench.stats.groups import (
    Groups,
    between_seeds,
    meaningful,
    number_of,
    seed_variance,
    summed,
    variance_of_mean,
)
from bench.stats.pairs import ALPHA, SEEDS_FOR_MODELS, freedom, holm

Floats = NDArray[np.float64]

Places = NDArray[np.int64]

FLIPS: Final = 10_000
"""Random signs of each group, at least; more for many pairs, whose first step of Holm's method needs small p values."""
FLIPS_PER_PAIR: Final = 200
MOST_FLIPS: Final = 40_000
MOST_SIGNS: Final = 10_000
"""Signs that are drawn together; more groups are put into as many blocks, which have one sign each."""
AT_ONCE: Final = 4_000_000
"""Elements of the largest temporary array: 32 MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTests:
    """Tests of all pairs of M models ``[M, M]``: mean log loss of the first index minus that of the second, in nats.

    ``holm`` are the p values adjusted by Holm's method. ``low`` and ``high`` are intervals that hold together with 95 %
    confidence; 0 is at most a bound of those whose adjusted p value is 0.05 or less, and in all others.
    """

    differences: Floats
    low: Floats
    high: Floats
    p_values: Floats
    holm: Floats


def compare_losses(models: Sequence[Floats], groups: Groups | None = None, *, seed: int = 0) -> LossTests:
    """Test every pair of models on the same images by flipping the signs of the groups' differences at random.

    A pair is significant if the sum of differences is extreme among those with random signs. Its interval holds the
    differences that this test does not reject: its bounds are quantiles of the means of random subsets of the groups
    (Hartigan 1969). With five seeds and more, Welch's t test over seeds and images must be significant too.
    """
    number, groups = len(models), meaningful(groups)
    rows, columns = np.triu_indices(number, 1)
    level = ALPHA / max(len(rows), 1)
    means = np.stack([model.mean(axis=0) for model in models])
    change = means[rows] - means[columns]
    p_values, low, high = _flipped(means, rows, columns, groups, level=level, seed=seed)
    for pair, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        if min(len(models[row]), len(models[column])) >= SEEDS_FOR_MODELS:
            p_value, reach = _welch(models[row], models[column], change[pair], groups, level)
            p_values[pair], middle = max(p_values[pair], p_value), change[pair].mean()
            low[pair], high[pair] = min(low[pair], middle - reach), max(high[pair], middle + reach)
    adjusted, differences = holm(p_values), change.mean(axis=1)
    # Where a later step of Holm's method rejects, the interval at the level of its first step ends at 0.
    low = np.where((adjusted <= ALPHA) & (differences > 0), np.maximum(low, 0.0), low)
    high = np.where((adjusted <= ALPHA) & (differences < 0), np.minimum(high, 0.0), high)
    matrices = [np.zeros((number, number)) for _ in range(3)] + [np.ones((number, number)) for _ in range(2)]
    values = (differences, low, high, p_values, adjusted)
    for matrix, value in zip(matrices, values, strict=True):
        matrix[rows, columns] = value
    difference, lower, upper, single, corrected = matrices
    return LossTests(
        differences=difference - difference.T,
        low=lower - upper.T,
        high=upper - lower.T,
        p_values=np.minimum(single, single.T),
        holm=np.minimum(corrected, corrected.T),
    )


def _flipped(  # noqa: PLR0913 - the pairs, and how they are compared
    means: Floats, rows: Places, columns: Places, groups: Groups | None, *, level: float, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Return p values ``[P]`` and bounds at ``level`` of pairs of mean losses ``[M, N]``, by random signs of groups."""
    flips = min(max(FLIPS, FLIPS_PER_PAIR * len(rows)), MOST_FLIPS)
    if level * (MOST_FLIPS + 1) < 2:  # noqa: PLR2004 - both sides: not even the smallest p value would be significant
        flips = FLIPS
    # A random subset of the groups keeps its sign, the others change it: the sum of the differences less d is as
    # extreme as that of the subset's, so that d is rejected where few subsets have a mean on its other side.
    # A row for each model: its means lie side by side in memory.
    subsets = np.ascontiguousarray(_subset_means(means, groups, flips, seed).T)
    # The largest number of subsets at which the p value is at most the level: one more on a side is not rejected.
    tail = math.floor(level * (flips + 1) / 2) - 1
    p_values, low, high = np.empty(len(rows)), np.full(len(rows), -math.inf), np.full(len(rows), math.inf)
    for pair, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        differences = subsets[row] - subsets[column]
        fewer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
        p_values[pair] = min(2 * (1 + fewer) / (flips + 1), 1.0)
        if tail >= 0:
            ordered = np.partition(differences, (tail, flips - 1 - tail))
            low[pair], high[pair] = ordered[tail], ordered[flips - 1 - tail]
    return p_values, low, high


def _subset_means(means: Floats, groups: Groups | None, flips: int, seed: int) -> Floats:
    """Return the mean ``[flips, M]`` of each model over random subsets of the groups, each included with p = 1/2."""
    sums, sizes = _in_blocks(summed(means, groups)), _in_blocks(summed(np.ones(means.shape[1]), groups))
    rng, together, batches = np.random.default_rng(seed), max(AT_ONCE // len(sizes), 1), []
    for start in range(0, flips, together):
        number = min(together, flips - start)
        bits = np.frombuffer(rng.bytes(-(-number * len(sizes) // 8)), dtype=np.uint8)
        chosen = np.unpackbits(bits, count=number * len(sizes)).reshape(number, -1).astype(np.float64)
        # The mean of an empty subset is not defined; that of all groups stands for it.
        chosen[~chosen.any(axis=1)] = 1.0
        batches.append((chosen @ sums.T) / (chosen @ sizes)[:, None])
    return np.concatenate(batches)


def _in_blocks(values: Floats) -> Floats:
    """Return sums ``[..., B]`` of values of groups ``[..., G]`` over blocks of them, if there are many groups."""
    number = values.shape[-1]
    if number <= MOST_SIGNS:
        return values
    # At random, as images in the order of their names are in that of their classes, whose losses differ. Sums of
    # independent groups are independent, so that the test keeps its level.
    order = np.random.default_rng(0).permutation(number)
    return np.asarray(
        np.add.reduceat(values[..., order], np.linspace(0, number, MOST_SIGNS, endpoint=False).astype(int), axis=-1)
    )


def _welch(first: Floats, second: Floats, change: Floats, groups: Groups | None, level: float) -> tuple[float, float]:
    """Return the p value of Welch's t test over seeds and images, and the half width of its interval."""
    images = float(variance_of_mean(change, groups))
    variance = images + seed_variance(first, groups) + seed_variance(second, groups)
    if variance == 0:
        return 0.0, 0.0  # the sign flips decide
    uncertain = [(between_seeds(model), len(model)) for model in (first, second)]
    free = freedom(images, number_of(groups, len(change)), uncertain)
    p_value = 2 * float(stdtr(free, -abs(float(change.mean())) / math.sqrt(variance)))
    return p_value, float(stdtrit(free, 1 - level / 2)) * math.sqrt(variance)
