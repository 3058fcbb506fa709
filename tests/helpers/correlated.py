"""Correlated models, drawn at random."""

import numpy as np
from scipy.stats import norm

from bench.stats.pairs import Right


def drawn(
    rng: np.random.Generator, accuracies: list[float], *, seeds: int = 1, images: int = 180, luck: float = 0.0
) -> list[Right]:
    """Correlated models: a picture is hard for all (0.6 of the variance), for an architecture (0.2), for a seed.

    ``luck`` is how far the seeds themselves differ in skill, in standard deviations of a picture's hardness.
    """
    hard = rng.normal(size=images)
    models = []
    for accuracy in accuracies:
        own = rng.normal(size=images)
        noise = rng.normal(size=(seeds, images))
        skill = norm.ppf(accuracy) * np.sqrt(1 + luck**2) + luck * rng.normal(size=(seeds, 1))
        models.append(np.sqrt(0.6) * hard + np.sqrt(0.2) * own + np.sqrt(0.2) * noise < skill)
    return models
