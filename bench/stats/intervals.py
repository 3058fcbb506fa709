"""Confidence intervals of proportions, means, ratios and differences, as pure functions of counts and arrays."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided confidence interval, 95 % unless stated otherwise."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A metric of a row, the mean over its checkpoints, with its interval."""

    value: float
    interval: Interval


def wilson_interval(successes: float, total: float, *, confidence: float = 0.95) -> Interval:
    """Return the Wilson score interval of a proportion (Wilson 1927); an effective sample size need not be whole.

    ``binomtest`` of scipy.stats returns the same interval, but importing scipy.stats takes longer than writing
    a small leaderboard.
    """
    z, share = float(ndtri(0.5 + 0.5 * confidence)), successes / total
    scale = 2 * (total + z**2)
    centre = (2 * total * share + z**2) / scale
    reach = z / scale * math.sqrt(4 * total * share * (1 - share) + z**2)
    # At 0 and at ``total`` successes the bound is exactly 0 or 1; the formula would miss it by a rounding error.
    return Interval(
        low=0.0 if successes == 0 else centre - reach,
        high=1.0 if successes == total else centre + reach,
    )


def percentile(samples: ArrayLike, percent: float) -> float:
    """Return a percentile of samples, linearly interpolated.

    The result is that of ``np.percentile``, whose overhead of a tenth of a millisecond per call adds up over a table.
    """
    return quantiles(np.asarray(samples, dtype=np.float64), percent / 100)[0]


def quantiles(values: NDArray[np.float64], *shares: float) -> list[float]:
    """Return quantiles of values ``[N]``, linearly interpolated, bit-identical to those of ``np.quantile``."""
    last = len(values) - 1
    below = [min(int(last * share), last) for share in shares]
    above = [min(index + 1, last) for index in below]
    # A partition places only the order statistics that are read, in linear time; sorting all resamples takes longer.
    neighbours = np.partition(values, sorted({*below, *above})).take([*below, *above]).tolist()
    interpolated = []
    for share, index, low, high in zip(shares, below, neighbours[: len(below)], neighbours[len(below) :], strict=True):
        part = last * share - index
        # As numpy does: from the nearer end, so that the result is exact at both ends.
        nearer_low = part < 0.5  # noqa: PLR2004 - the middle
        interpolated.append(low + (high - low) * part if nearer_low else high - (high - low) * (1 - part))
    return interpolated


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the t interval of the mean of two or more values."""
    array = np.asarray(values, dtype=np.float64)
    # The mean of equal values may differ from them by a rounding error, which would give the interval a width.
    if np.ptp(array) == 0:
        return Interval(low=float(array[0]), high=float(array[0]))
    mean, error = float(array.mean()), float(array.std(ddof=1)) / math.sqrt(len(array))
    reach = error * float(stdtrit(len(array) - 1, 0.5 + 0.5 * confidence))
    return Interval(low=mean - reach, high=mean + reach)


def ratio_interval(ours: ArrayLike, others: ArrayLike) -> Interval:
    """Return the 95 % interval of ours / others over rounds, a t interval of the logarithms of the ratios.

    Each ratio is taken within its round, so that a round in which the whole machine is slow does not widen it.
    """
    # With logarithms, the interval of others / ours is the reciprocal of this one.
    logs = mean_interval(np.log(np.asarray(ours, dtype=np.float64)) - np.log(np.asarray(others, dtype=np.float64)))
    return Interval(low=math.exp(logs.low), high=math.exp(logs.high))


def independent_difference(first: tuple[float, float], second: tuple[float, float]) -> Interval:
    """Return the 95 % interval of a difference of two proportions of independent samples (Newcombe 1998, method 10).

    ``first`` and ``second`` are (successes, total), which may be scaled to an effective sample size.
    """
    shares = [successes / total for successes, total in (first, second)]
    sure = [wilson_interval(*first), wilson_interval(*second)]
    difference = shares[0] - shares[1]
    return Interval(
        low=difference - math.hypot(shares[0] - sure[0].low, sure[1].high - shares[1]),
        high=difference + math.hypot(sure[0].high - shares[0], shares[1] - sure[1].low),
    )


def paired_difference(gained: float, lost: float, total: float, *, confidence: float = 0.95) -> Interval:
    """Return the score interval of the difference of two accuracies on the same images (Tango 1998).

    ``gained`` images are classified correctly only by the first model, ``lost`` images only by the second; all three
    may be scaled to an effective sample size. The bounds are found by root search, because neither scipy nor
    scikit-learn has an interval for paired proportions.
    """
    from scipy.optimize import brentq  # noqa: PLC0415 - takes a tenth of a second, and not every table needs it

    z = float(ndtri(0.5 + 0.5 * confidence))
    estimate = (gained - lost) / total

    def excess(difference: float, side: float) -> float:
        return _tango(difference, gained, lost, total) - side * z

    # At a difference of -1 or 1 the variance under the null hypothesis is 0 and the statistic is not defined.
    edge = 1 - 1e-9
    low = brentq(excess, -edge, estimate, args=(1.0,)) if estimate > -edge else -1.0
    high = brentq(excess, estimate, edge, args=(-1.0,)) if estimate < edge else 1.0
    return Interval(low=float(low), high=float(high))


def _tango(difference: float, gained: float, lost: float, total: float) -> float:
    """Return the score statistic of the null hypothesis that the accuracies differ by ``difference``."""
    # The variance needs the probability of a lost image under this hypothesis. Its maximum likelihood estimate is the
    # larger root of a quadratic equation, whose coefficients these are.
    second = 2 * total
    first = -gained - lost + (second - gained + lost) * difference
    constant = -lost * difference * (1 - difference)
    share = (math.sqrt(max(first**2 - 4 * second * constant, 0.0)) - first) / (2 * second)
    variance = total * (2 * share + difference * (1 - difference))
    return (gained - lost - total * difference) / math.sqrt(variance) if variance > 0 else 0.0
