"""Simulated models with correlated errors."""

import numpy as np
from scipy.stats import norm

from bench.stats.pairs import Right


def drawn(
    rng: np.random.Generator, accuracies: list[float], *, seeds: int = 1, images: int = 180, luck: float = 0.0
) -> list[Right]:
    """Return which images each model classifies correctly, ``[seeds, images]``.

    The difficulty of an image is shared by all models (0.6 of its variance), by the seeds of one model (0.2), or
    specific to one seed. ``luck`` is the standard deviation of the skill of seeds, in units of that difficulty.
    """
    hard = rng.normal(size=images)
    models = []
    for accuracy in accuracies:
        own = rng.normal(size=images)
        noise = rng.normal(size=(seeds, images))
        skill = norm.ppf(accuracy) * np.sqrt(1 + luck**2) + luck * rng.normal(size=(seeds, 1))
        models.append(np.sqrt(0.6) * hard + np.sqrt(0.2) * own + np.sqrt(0.2) * noise < skill)
    return models
