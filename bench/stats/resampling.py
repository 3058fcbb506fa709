"""What chance alone makes of a figure: models that are perfectly calibrated, and who is on a Pareto front."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.stats.intervals import quantiles
from imgcls.evaluation.binning import ECE_BINS, ece_bins

FRONT_RESAMPLES: Final = 2_000
CALIBRATED_RESAMPLES: Final = 2_000
TOGETHER: Final = 50
SEED: Final = 0
IMAGES_KEPT: Final = 1_000
"""Of as many test images, what simulations draw is kept for the next checkpoint: 16 MB."""

Floats = NDArray[np.float64]


class Uniforms:
    """Uniform draws from a seed, one after the other; of those that are drawn already, none is drawn again."""

    def __init__(self, *, drawn: Floats | None = None) -> None:
        """Begin with the first draw, where ``drawn`` are all that will be taken, or none."""
        self._rng = np.random.default_rng(SEED)
        self._drawn, self._place = drawn, 0

    def take(self, rows: int, columns: int) -> Floats:
        """Return the next draws as ``[rows, columns]``."""
        if self._drawn is None:
            return self._rng.random((rows, columns))
        start, self._place = self._place, self._place + rows * columns
        return self._drawn[start : self._place].reshape(rows, columns)


def uniforms_for(images: Sequence[int]) -> Callable[[int], Uniforms]:
    """Return what ``calibrated_ece`` of so many test images takes, drawn once for all that fit into memory."""
    most = max((number for number in images if number <= IMAGES_KEPT), default=0)
    drawn = Uniforms().take(1, CALIBRATED_RESAMPLES * most)[0]
    return lambda number: Uniforms(drawn=drawn if number <= most else None)


def calibrated_ece(
    confidence: Floats, *, resamples: int = CALIBRATED_RESAMPLES, uniforms: Uniforms | None = None
) -> tuple[float, float]:
    """Return mean and 95th percentile of the ECE of a model whose confidences ``[N]`` are exactly true."""
    uniforms = uniforms or Uniforms()
    bins = ece_bins(confidence)
    gaps = np.zeros((ECE_BINS, resamples))
    for place in np.unique(bins):
        inside = confidence[bins == place]
        for start in range(0, len(inside), 1000):
            part = inside[start : start + 1000]
            right = uniforms.take(resamples, len(part)) < part
            gaps[place] += right.view(np.uint8).sum(axis=1, dtype=np.uint16) - part.sum()
    errors = np.abs(gaps).sum(axis=0) / len(confidence)
    return float(errors.mean()), quantiles(errors, 0.95)[0]


def front(accuracies: Floats, costs: Floats) -> NDArray[np.bool_]:
    """Return which models no other one beats in accuracy and cost at once; ``[..., M]`` each, over leading axes."""
    better = accuracies[..., None, :] >= accuracies[..., :, None]
    cheaper = costs[..., None, :] <= costs[..., :, None]
    really = (accuracies[..., None, :] > accuracies[..., :, None]) | (costs[..., None, :] < costs[..., :, None])
    return ~np.asarray((better & cheaper & really).any(axis=-1))


def resampled_accuracies(right: Floats, *, resamples: int = FRONT_RESAMPLES, seed: int = 0) -> Floats:
    """Draw test images with replacement, alike for all models: accuracies ``[R, M]``.

    ``right`` is ``[M, N]``, the share of a model's checkpoints that are right on an image. Images on which all models
    do alike are drawn together.
    """
    rng = np.random.default_rng(seed)
    patterns, counts = np.unique(right, axis=1, return_counts=True)
    accuracies = np.empty((resamples, len(right)))
    for start in range(0, resamples, 100):
        weights = rng.multinomial(right.shape[1], counts / counts.sum(), size=min(100, resamples - start))
        accuracies[start : start + 100] = weights @ patterns.T / right.shape[1]
    return accuracies


def front_probability(accuracies: Floats, costs: Sequence[Floats], *, seed: int = 0) -> Floats:
    """Return the share of resampled accuracies ``[R, M]`` with which each model is on the front, ``[M]``.

    A cost is resampled from its rounds, ``costs[m]`` ``[K]``; one that is exact has one.
    """
    rng = np.random.default_rng(seed)
    drawn = [cost[rng.integers(0, len(cost), size=(len(accuracies), len(cost)))].mean(axis=1) for cost in costs]
    every = np.stack(drawn, axis=1)
    found = np.zeros(len(costs), dtype=np.int64)
    for start in range(0, len(accuracies), TOGETHER):  # the pairs of some resamples fit into the processor's cache
        part = slice(start, start + TOGETHER)
        found += front(accuracies[part], every[part]).sum(axis=0)
    return found / len(accuracies)
