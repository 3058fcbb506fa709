"""How sure a figure is: pure functions of counts and arrays."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided 95 % interval."""

    low: float
    high: float


@functools.cache
def wilson_interval(successes: int, total: int) -> Interval:
    """95 % Wilson score interval of a share (Wilson 1927)."""
    interval = binomtest(successes, total).proportion_ci(confidence_level=0.95, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))


def percentile(samples: ArrayLike, percent: float) -> float:
    """Percentile of samples, linearly interpolated."""
    return float(np.percentile(np.asarray(samples, dtype=np.float64), percent))
