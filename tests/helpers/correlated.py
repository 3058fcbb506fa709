"""Simulated models with correlated errors and log losses."""

from typing import Any

import numpy as np
from scipy.stats import norm

from bench.stats.losses import Floats
from bench.stats.pairs import Right


def deviates(  # noqa: PLR0913 - the parameters of a simulation
    rng: np.random.Generator,
    models: int,
    *,
    seeds: int = 1,
    images: int = 180,
    luck: float = 0.0,
    cluster: int = 1,
    alike: float = 0.8,
) -> list[Floats]:
    """Return the standard normal ease of each image for each checkpoint, ``[seeds, images]`` for each model.

    0.6 of its variance is shared by all models and 0.2 by the seeds of one model; 0.2 is specific to one seed. ``luck``
    is the standard deviation of the skill of seeds, in the same units. ``alike`` of the variance is shared by the
    images of a ``cluster``, which are next to each other.
    """

    def normal(*shape: int) -> np.ndarray:
        if cluster == 1:
            return rng.normal(size=(*shape, images))
        together = rng.normal(size=(*shape, -(-images // cluster))).repeat(cluster, axis=-1)[..., :images]
        return np.sqrt(alike) * together + np.sqrt(1 - alike) * rng.normal(size=(*shape, images))

    hard = normal()
    found = []
    for _ in range(models):
        own = normal()
        noise = normal(seeds)
        skill = luck * rng.normal(size=(seeds, 1))
        found.append(skill - (np.sqrt(0.6) * hard + np.sqrt(0.2) * own + np.sqrt(0.2) * noise))
    return found


def drawn(rng: np.random.Generator, accuracies: list[float], *, luck: float = 0.0, **options: Any) -> list[Right]:
    """Return which images each model classifies correctly, ``[seeds, images]``; options as of ``deviates``."""
    scale = np.sqrt(1 + luck**2)
    models = deviates(rng, len(accuracies), luck=luck, **options)
    return [each > -norm.ppf(accuracy) * scale for each, accuracy in zip(models, accuracies, strict=True)]


def with_losses(rng: np.random.Generator, accuracies: list[float], **options: Any) -> tuple[list[Right], list[Floats]]:
    """Return which images each model classifies correctly, and the log losses ``[seeds, images]``.

    Two classes with normal log-odds of the true one, whose mean is half their variance: models are then calibrated.
    Options are those of ``deviates``.
    """
    spreads = [2 * float(norm.ppf(accuracy)) for accuracy in accuracies]
    models = deviates(rng, len(accuracies), **options)
    odds = [spread**2 / 2 + spread * each for spread, each in zip(spreads, models, strict=True)]
    return [each > 0 for each in odds], [np.logaddexp(0, -each) for each in odds]
