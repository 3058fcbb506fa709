"""Simulated models with correlated errors."""

import numpy as np
from scipy.stats import norm

from bench.stats.pairs import Right


def drawn(  # noqa: PLR0913 - the parameters of a simulation
    rng: np.random.Generator,
    accuracies: list[float],
    *,
    seeds: int = 1,
    images: int = 180,
    luck: float = 0.0,
    cluster: int = 1,
    alike: float = 0.8,
) -> list[Right]:
    """Return which images each model classifies correctly, ``[seeds, images]``.

    The difficulty of an image is shared by all models (0.6 of its variance), by the seeds of one model (0.2), or
    specific to one seed. ``luck`` is the standard deviation of the skill of seeds, in units of that difficulty.
    ``alike`` of the variance is shared by the images of a ``cluster``, which are next to each other.
    """

    def normal(*shape: int) -> np.ndarray:
        if cluster == 1:
            return rng.normal(size=(*shape, images))
        together = rng.normal(size=(*shape, -(-images // cluster))).repeat(cluster, axis=-1)[..., :images]
        return np.sqrt(alike) * together + np.sqrt(1 - alike) * rng.normal(size=(*shape, images))

    hard = normal()
    models = []
    for accuracy in accuracies:
        own = normal()
        noise = normal(seeds)
        skill = norm.ppf(accuracy) * np.sqrt(1 + luck**2) + luck * rng.normal(size=(seeds, 1))
        models.append(np.sqrt(0.6) * hard + np.sqrt(0.2) * own + np.sqrt(0.2) * noise < skill)
    return models
