"""Weights of the members of an ensemble from their probabilities on val. Pure functions of arrays.

``probabilities`` are those of M members for N images and C classes, ``[M, N, C]``; ``labels`` are int64 ``[N]``. All
functions return weights ``[M]`` that sum to 1.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

ROUNDS: Final = 50
"""Selections of the greedy rule; the best beginning of them is kept, so that more rounds cannot be worse on val."""

LEAST_WEIGHT: Final = 1e-3
"""Smallest weight that the fitted rule gives: a network costs time and memory however little it counts."""

LEAST: Final = 1e-12
"""Smallest probability whose logarithm is taken."""


def soft(probabilities: Floats, _labels: Labels) -> Floats:
    """Return equal weights."""
    return np.full(len(probabilities), 1 / len(probabilities))


def fitted(probabilities: Floats, labels: Labels) -> Floats:
    """Return the weights whose mean probabilities have the lowest log loss.

    The log loss is convex in the weights, so that the minimum is unique up to members with equal predictions.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - takes a quarter of a second to import

    of_truth = probabilities[:, np.arange(len(labels)), labels]

    def loss(weights: Floats) -> tuple[float, Floats]:
        mean = np.maximum(weights @ of_truth, LEAST)
        return float(-np.log(mean).mean()), -(of_truth / mean).mean(axis=1)

    number = len(probabilities)
    optimum = minimize(
        loss,
        soft(probabilities, labels),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * number,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": lambda _: np.ones(number)},
    )
    weights = np.where(optimum.x < LEAST_WEIGHT, 0.0, optimum.x)
    return np.asarray(weights / weights.sum())


def greedy(probabilities: Floats, labels: Labels) -> Floats:
    """Return the weights of greedy selection with replacement (Caruana et al. 2004) by accuracy, then log loss.

    Each round adds the member with which the mean is best; the result is that after the best round.
    """
    total, chosen = np.zeros(probabilities.shape[1:]), list[int]()
    scores = list[tuple[float, float]]()
    for number in range(1, ROUNDS + 1):
        tried = [_quality((total + member) / number, labels) for member in probabilities]
        best = max(range(len(tried)), key=lambda index: tried[index])
        total, chosen = total + probabilities[best], [*chosen, best]
        scores.append(tried[best])
    # The first of the best: fewer members for the same quality.
    length = max(range(ROUNDS), key=lambda index: (scores[index], -index)) + 1
    return np.bincount(chosen[:length], minlength=len(probabilities)) / length


def _quality(mean: Floats, labels: Labels) -> tuple[float, float]:
    """Return accuracy and negative log loss of probabilities ``[N, C]``."""
    right = mean.argmax(axis=1) == labels
    return float(right.mean()), float(np.log(np.maximum(mean[np.arange(len(labels)), labels], LEAST)).mean())


RULES: Final[dict[str, Callable[[Floats, Labels], Floats]]] = {"soft": soft, "fitted": fitted, "greedy": greedy}
"""Rules by name."""
