"""How sure a figure is: pure functions of counts and arrays."""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, sem, t


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided 95 % interval."""

    low: float
    high: float


@functools.cache
def wilson_interval(successes: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a share, 95 % unless said otherwise (Wilson 1927)."""
    interval = binomtest(successes, total).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(low=float(interval.low), high=float(interval.high))


def percentile(samples: ArrayLike, percent: float) -> float:
    """Percentile of samples, linearly interpolated."""
    return float(np.percentile(np.asarray(samples, dtype=np.float64), percent))


def mean_interval(values: ArrayLike) -> Interval:
    """95 % t interval of the mean of two or more values."""
    array = np.asarray(values, dtype=np.float64)
    if np.ptp(array) == 0:
        return Interval(low=float(array[0]), high=float(array[0]))
    low, high = t.interval(0.95, df=len(array) - 1, loc=array.mean(), scale=sem(array))
    return Interval(low=float(low), high=float(high))


def ratio_interval(ours: ArrayLike, others: ArrayLike) -> Interval:
    """95 % interval of ours / others over rounds, each ratio taken within its round: a t interval of the logarithms."""
    logs = mean_interval(np.log(np.asarray(ours, dtype=np.float64)) - np.log(np.asarray(others, dtype=np.float64)))
    return Interval(low=math.exp(logs.low), high=math.exp(logs.high))


@functools.cache
def independent_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """95 % interval of a difference of two shares, (successes, total) each, of unlike images (Newcombe 1998)."""
    from statsmodels.stats.proportion import confint_proportions_2indep  # noqa: PLC0415 - a third of a second

    low, high = confint_proportions_2indep(*first, *second, method="newcomb", compare="diff")
    return Interval(low=float(low), high=float(high))


@functools.cache
def paired_difference(gained: int, lost: int, total: int) -> Interval:
    """95 % score interval of a difference of two accuracies on the same images (Tango 1998).

    ``gained`` images are right only in the second, ``lost`` only in the first. Found by root search, as scipy and
    scikit-learn have none.
    """
    z = float(norm.ppf(0.975))
    estimate = (gained - lost) / total

    def excess(difference: float, side: float) -> float:
        return _tango(difference, gained, lost, total) - side * z

    edge = 1 - 1e-9
    low = brentq(excess, -edge, estimate, args=(1.0,)) if estimate > -edge else -1.0
    high = brentq(excess, estimate, edge, args=(-1.0,)) if estimate < edge else 1.0
    return Interval(low=float(low), high=float(high))


def _tango(difference: float, gained: int, lost: int, total: int) -> float:
    """Score statistic of the null hypothesis that the accuracies differ by ``difference``."""
    second = 2 * total
    first = -gained - lost + (second - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    share = (math.sqrt(max(first**2 - 4 * second * constant, 0.0)) - first) / (2 * second)
    variance = total * (2 * share + difference * (1 - difference))
    return (gained - lost - total * difference) / math.sqrt(variance) if variance > 0 else 0.0
