"""Test images that accuracy and log loss need for the same power: ``python -m tests.benchmarks.log_loss``.

Two calibrated models with correlated errors (``tests/helpers/correlated.py``), tested by the functions of the table.
"""

import sys
from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from bench.stats.losses import compare_losses
from bench.stats.pairs import ALPHA, compare_all
from tests.helpers.correlated import with_losses

CASES: Final = ((0.80, 0.77), (0.90, 0.87))
POWER: Final = 0.8
TABLES: Final = 500
ROUNDS: Final = 3
"""Simulations of each case and measure; each starts at the number of images that the one before has found."""


def by_accuracy(rng: np.random.Generator, accuracies: list[float], images: int) -> bool:
    """Return whether exact McNemar finds the difference."""
    right, _ = with_losses(rng, accuracies, images=images)
    return bool(compare_all(right).apart[0, 1])


def by_log_loss(rng: np.random.Generator, accuracies: list[float], images: int) -> bool:
    """Return whether the sign flips of log loss find the difference."""
    _, losses = with_losses(rng, accuracies, images=images)
    return bool(compare_losses(losses).holm[0, 1] <= ALPHA)


def images_for(found: Callable[[np.random.Generator, list[float], int], bool], accuracies: list[float]) -> int:
    """Return the number of images at which a share of ``POWER`` of the tables is significant.

    The power of a paired test is nearly that of a z test: the simulated power gives its shift, which grows with the
    square root of the number of images.
    """
    rng, images = np.random.default_rng(0), 1000

    def power(shift: float) -> float:
        return float(norm.sf(norm.isf(ALPHA / 2) - shift))

    for _ in range(ROUNDS):
        share = np.clip(np.mean([found(rng, accuracies, images) for _ in range(TABLES)]), 0.07, 0.995)
        shift = brentq(lambda value, share=share: power(value) - share, 0, 6)
        images = round(images * (brentq(lambda value: power(value) - POWER, 0, 6) / shift) ** 2)
    return images


def main() -> None:
    """Print a line for each case."""
    sys.stdout.write(f"images for {100 * POWER:.0f} % power, {TABLES} tables in each of {ROUNDS} rounds\n")
    for accuracies in CASES:
        first, second = (images_for(found, list(accuracies)) for found in (by_accuracy, by_log_loss))
        sys.stdout.write(f"{accuracies}: accuracy {first}, log loss {second}, ratio {second / first:.2f}\n")


if __name__ == "__main__":
    main()
