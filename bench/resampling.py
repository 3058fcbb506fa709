"""What chance alone makes of a figure: models that are perfectly calibrated, and who is on a Pareto front."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.stats import quantiles
from imgcls.binning import ECE_BINS, ece_bins

FRONT_RESAMPLES: Final = 2_000
CALIBRATED_RESAMPLES: Final = 2_000
IMAGES_KEPT: Final = 1_000
"""Of as many test images, what simulations draw is kept for the next checkpoint: 16 MB."""

Floats = NDArray[np.float64]


class Uniforms:
    """Uniform draws from one seed, in order; the first ones are kept, for whoever starts again from them."""

    def __init__(self, *, kept: int = 0, seed: int = 0) -> None:
        """Draw those to keep."""
        self._rng = np.random.default_rng(seed)
        self._kept = self._rng.random(kept)
        self._place = 0

    def again(self) -> "Uniforms":
        """Start again from the first draw; what is taken after the kept ones is not to be taken twice."""
        self._place = 0
        return self

    def take(self, rows: int, columns: int) -> Floats:
        """Return the next draws as ``[rows, columns]``."""
        start, self._place = self._place, self._place + rows * columns
        if self._place > len(self._kept):
            return self._rng.random((rows, columns))
        return self._kept[start : self._place].reshape(rows, columns)


def calibrated_eces(confidences: Sequence[Floats]) -> list[tuple[float, float]]:
    """Return ``calibrated_ece`` of several models; what it draws is drawn once for all that fit into memory."""
    fitting = [len(one) for one in confidences if len(one) <= IMAGES_KEPT]
    kept = Uniforms(kept=CALIBRATED_RESAMPLES * max(fitting, default=0))
    return [calibrated_ece(one, uniforms=kept if len(one) <= IMAGES_KEPT else None) for one in confidences]


def calibrated_ece(
    confidence: Floats, *, resamples: int = CALIBRATED_RESAMPLES, uniforms: Uniforms | None = None
) -> tuple[float, float]:
    """Return mean and 95th percentile of the ECE of a model whose confidences ``[N]`` are exactly true."""
    drawn = (uniforms or Uniforms()).again()
    bins = ece_bins(confidence)
    gaps = np.zeros((resamples, ECE_BINS))
    for place in np.unique(bins):
        inside = confidence[bins == place]
        for start in range(0, len(inside), 1000):
            part = inside[start : start + 1000]
            right = np.packbits(drawn.take(resamples, len(part)) < part, axis=1)
            gaps[:, place] += np.bitwise_count(right).sum(axis=1) - part.sum()
    errors = np.abs(gaps).sum(axis=1) / len(confidence)
    return float(errors.mean()), quantiles(errors, 0.95)[0]


def front(accuracies: Floats, costs: Floats) -> NDArray[np.bool_]:
    """Say which models no other one beats in accuracy and cost at once; ``[..., M]`` each, over leading axes."""
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
    """Give the share of resampled accuracies ``[R, M]`` with which each model is on the front, ``[M]``.

    A cost is resampled from its rounds, ``costs[m]`` ``[K]``; one that is exact has one.
    """
    rng = np.random.default_rng(seed)
    drawn = [cost[rng.integers(0, len(cost), size=(len(accuracies), len(cost)))].mean(axis=1) for cost in costs]
    share: Floats = front(accuracies, np.stack(drawn, axis=1)).mean(axis=0)
    return share
