"""What chance alone makes of a figure: models that are perfectly calibrated, and who is on a Pareto front."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.metrics import ECE_BINS, ece_bins

FRONT_RESAMPLES: Final = 2_000
CALIBRATED_RESAMPLES: Final = 2_000

Floats = NDArray[np.float64]


def calibrated_ece(confidence: Floats, *, resamples: int = CALIBRATED_RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Give mean and 95th percentile of the ECE of a model whose confidences ``[N]`` are exactly true."""
    rng = np.random.default_rng(seed)
    bins = ece_bins(confidence)
    gaps = np.zeros((resamples, ECE_BINS))
    for place in np.unique(bins):
        inside = confidence[bins == place]
        for start in range(0, len(inside), 1000):
            part = inside[start : start + 1000]
            gaps[:, place] += ((rng.random((resamples, len(part))) < part) - part).sum(axis=1)
    errors = np.abs(gaps).sum(axis=1) / len(confidence)
    return float(errors.mean()), float(np.quantile(errors, 0.95))


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
