"""Simulations: the ECE of a perfectly calibrated model, and the bootstrap probability of being on a Pareto front."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.stats.groups import Groups, meaningful, summed
from bench.stats.intervals import quantiles
from imgcls.evaluation.binning import ECE_BINS, ece_bins

FRONT_RESAMPLES: Final = 2_000
CALIBRATED_RESAMPLES: Final = 2_000
ALL_DIFFERENT: Final = 0.9
"""Patterns of results over groups of images, from which on drawing groups is faster than drawing counts of patterns."""
SEED: Final = 0
MANY_IN_BIN: Final = 10_000
"""Images of a bin of confidence above which they are not drawn one by one."""
SLICES: Final = 64
"""Slices of equally many images into which such a bin is divided."""
IMAGES_KEPT: Final = 1_000
"""Test images up to which random numbers are kept for the next checkpoint: 16 MB."""

Floats = NDArray[np.float64]


class Uniforms:
    """A stream of uniform random numbers from a fixed seed, read from an array of earlier draws if there is one."""

    def __init__(self, *, drawn: Floats | None = None) -> None:
        """Start at the beginning of the stream; ``drawn`` must hold all numbers that will be taken, or be None."""
        self._rng = np.random.default_rng(SEED)
        self._drawn, self._place = drawn, 0

    def take(self, rows: int, columns: int) -> Floats:
        """Return the next numbers of the stream as ``[rows, columns]``."""
        if self._drawn is None:
            return self._rng.random((rows, columns))
        start, self._place = self._place, self._place + rows * columns
        return self._drawn[start : self._place].reshape(rows, columns)


def uniforms_for(images: Sequence[int]) -> Callable[[int], Uniforms]:
    """Return a function from a number of test images to the stream that ``calibrated_ece`` reads for it.

    All streams have the same seed, so that one array serves every checkpoint of at most ``IMAGES_KEPT`` images.
    """
    most = max((number for number in images if number <= IMAGES_KEPT), default=0)
    drawn = Uniforms().take(1, CALIBRATED_RESAMPLES * most)[0]
    return lambda number: Uniforms(drawn=drawn if number <= most else None)


def calibrated_ece(
    confidence: Floats, *, resamples: int = CALIBRATED_RESAMPLES, uniforms: Uniforms | None = None
) -> tuple[float, float]:
    """Return mean and 95th percentile of the ECE of a perfectly calibrated model with these confidences ``[N]``.

    The ECE of a finite sample is above 0 for a perfectly calibrated model too; an ECE is compared with this value.
    """
    uniforms = uniforms or Uniforms()
    bins = ece_bins(confidence)
    gaps = np.zeros((ECE_BINS, resamples))
    for index in np.unique(bins):
        inside = confidence[bins == index]
        if len(inside) > MANY_IN_BIN:
            gaps[index] = _right_of(np.sort(inside), resamples, int(index)) - inside.sum()
            continue
        # Bounds the memory of a large test split: 16 MB of random numbers at a time.
        for start in range(0, len(inside), 1000):
            part = inside[start : start + 1000]
            right = uniforms.take(resamples, len(part)) < part
            # Small integer types, without a conversion to int64; uint16 holds the sum of 1,000 predictions.
            gaps[index] += right.view(np.uint8).sum(axis=1, dtype=np.uint16) - part.sum()
    errors = np.abs(gaps).sum(axis=0) / len(confidence)
    return float(errors.mean()), quantiles(errors, 0.95)[0]


def _right_of(confidence: Floats, resamples: int, index: int) -> Floats:
    """Draw how many of the images with these confidences ``[N]``, in order, are correct, ``[resamples]``."""
    # Within a slice of a bin the confidences are nearly equal, and the number of correct images nearly binomial.
    slices, rng = np.array_split(confidence, SLICES), np.random.default_rng((SEED, index))
    return np.asarray(
        sum(rng.binomial(len(part), min(part.mean(), 1.0), resamples) for part in slices), dtype=np.float64
    )


def front(accuracies: Floats, costs: Floats) -> NDArray[np.bool_]:
    """Return which models are on the Pareto front of accuracy and cost; both arrays are ``[..., M]``.

    A model is on the front if no other one is at least as good in both and better in one of them.
    """
    # By the cost, and among equal costs by the accuracy, the highest first: no comparison of all pairs.
    order = np.lexsort((-accuracies, costs), axis=-1)
    accuracy, cost = (np.take_along_axis(values, order, axis=-1) for values in (accuracies, costs))
    dearer = np.concatenate([np.ones_like(cost[..., :1], dtype=bool), cost[..., 1:] > cost[..., :-1]], axis=-1)
    # The place of the first model of each cost, which is the best of that cost.
    first = np.maximum.accumulate(np.where(dearer, np.arange(cost.shape[-1]), 0), axis=-1)
    so_far = np.maximum.accumulate(accuracy, axis=-1)
    before = np.concatenate([np.full_like(accuracy[..., :1], -np.inf), so_far[..., :-1]], axis=-1)
    equal, cheaper = (np.take_along_axis(values, first, axis=-1) for values in (accuracy, before))
    on_front = np.empty(accuracy.shape, dtype=bool)
    np.put_along_axis(on_front, order, (accuracy == equal) & (accuracy > cheaper), axis=-1)
    return on_front


def resampled_accuracies(
    right: Floats, groups: Groups | None = None, *, resamples: int = FRONT_RESAMPLES, seed: int = 0
) -> Floats:
    """Return the accuracies ``[R, M]`` of R bootstrap samples of the test images, the same samples for all models.

    ``right`` is ``[M, N]``, the share of a model's checkpoints that are correct on an image. Images of one group
    (``groups`` ``[N]``) are drawn together.
    """
    rng = np.random.default_rng(seed)
    # Images with the same results of all models are interchangeable: drawing how often each pattern of results occurs
    # is the same as drawing images, and a table of few models has few patterns.
    sums = summed(np.vstack([right, np.ones(right.shape[1])]), meaningful(groups))
    patterns, kinds, counts = _patterns(sums)
    accuracies = np.empty((resamples, len(right)))
    for start in range(0, resamples, 100):
        number = min(100, resamples - start)
        if len(counts) < ALL_DIFFERENT * len(kinds):
            weights = rng.multinomial(counts.sum(), counts / counts.sum(), size=number)
        else:
            weights = _counted(kinds[rng.integers(0, len(kinds), (number, len(kinds)))], len(counts))
        drawn = weights @ patterns.T
        # Rounded, so that models with equally many correct images tie: sums over seeds differ in their last digit, and
        # in another way on another processor.
        accuracies[start : start + 100] = np.round(drawn[:, :-1] / drawn[:, -1:], 12)
    return accuracies


def _patterns(columns: Floats) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct columns ``[M, K]`` of ``[M, N]`` in order, which of them each is ``[N]``, and their numbers.

    The same as ``np.unique`` returns for this axis, which sorts whole columns: half a minute for a million of them.
    """
    kinds = np.zeros(columns.shape[1], dtype=np.int64)
    for row in columns:
        values, places = np.unique(row, return_inverse=True)
        kinds = np.unique(kinds * len(values) + places, return_inverse=True)[1]
    _, first, counts = np.unique(kinds, return_index=True, return_counts=True)
    return columns[:, first], kinds, counts


def _counted(kinds: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Return how often each of ``number`` kinds occurs in each row ``[R, number]``."""
    rows = np.arange(len(kinds))[:, None] * number
    return np.bincount((rows + kinds).ravel(), minlength=len(kinds) * number).reshape(len(kinds), number)


def front_probability(accuracies: Floats, costs: Sequence[Floats], *, shared: bool = False, seed: int = 0) -> Floats:
    """Return the share ``[M]`` of resamples in which each model is on the front, from accuracies ``[R, M]``.

    ``costs[m]`` ``[K]`` are the values (rounds or seeds) from which the mean cost of model m is resampled; a cost that
    does not vary has one value. ``shared``: equal costs are one measurement, such as the latency of models with one
    network, and resampled once.
    """
    rng = np.random.default_rng(seed)
    # Accuracies and costs vary for unrelated reasons (images and rounds), so that they are resampled independently.
    drawn: dict[bytes | int, Floats] = {}
    # Independent samples of one latency would make a model faster than another that has the same network.
    keys = [cost.tobytes() if shared else index for index, cost in enumerate(costs)]
    for key, cost in zip(keys, costs, strict=True):
        if key not in drawn:
            drawn[key] = cost[rng.integers(0, len(cost), size=(len(accuracies), len(cost)))].mean(axis=1)
    every = np.stack([drawn[key] for key in keys], axis=1)
    return np.asarray(front(accuracies, every).sum(axis=0) / len(accuracies))
