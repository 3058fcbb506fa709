"""How sure a figure is: pure functions of counts and arrays."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A two-sided 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A figure of a row: of one checkpoint with its interval over images, or the mean of several over seeds."""

    value: float
    interval: Interval
    over_seeds: bool
    least: float
    most: float


def wilson_interval(successes: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a share, 95 % unless said otherwise (Wilson 1927).

    By its formula: scipy's ``binomtest`` gives the same, but importing scipy.stats takes longer than a leaderboard.
    """
    z, share = float(ndtri(0.5 + 0.5 * confidence)), successes / total
    scale = 2 * (total + z**2)
    centre = (2 * total * share + z**2) / scale
    reach = z / scale * math.sqrt(4 * total * share * (1 - share) + z**2)
    return Interval(
        low=0.0 if successes == 0 else centre - reach,
        high=1.0 if successes == total else centre + reach,
    )


def percentile(samples: ArrayLike, percent: float) -> float:
    """Percentile of samples, linearly interpolated: numpy's, without the tenth of a millisecond that it prepares."""
    return quantiles(np.asarray(samples, dtype=np.float64), percent / 100)[0]


def quantiles(values: NDArray[np.float64], *shares: float) -> list[float]:
    """Return quantiles of values ``[N]``, linearly interpolated, to the last bit those of ``np.quantile``."""
    last = len(values) - 1
    below = [min(int(last * share), last) for share in shares]
    above = [min(place + 1, last) for place in below]
    found = np.partition(values, sorted({*below, *above})).take([*below, *above]).tolist()
    return [
        _between(low, high, last * share - place)
        for share, place, low, high in zip(shares, below, found[: len(below)], found[len(below) :], strict=True)
    ]


def _between(low: float, high: float, part: float) -> float:
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)  # noqa: PLR2004 - as numpy does


def mean_interval(values: ArrayLike) -> Interval:
    """95 % t interval of the mean of two or more values."""
    array = np.asarray(values, dtype=np.float64)
    if np.ptp(array) == 0:
        return Interval(low=float(array[0]), high=float(array[0]))
    mean, error = float(array.mean()), float(array.std(ddof=1)) / math.sqrt(len(array))
    low, high = (mean + error * float(stdtrit(len(array) - 1, share)) for share in (0.025, 0.975))
    return Interval(low=low, high=high)


def ratio_interval(ours: ArrayLike, others: ArrayLike) -> Interval:
    """95 % interval of ours / others over rounds, each ratio taken within its round: a t interval of the logarithms."""
    logs = mean_interval(np.log(np.asarray(ours, dtype=np.float64)) - np.log(np.asarray(others, dtype=np.float64)))
    return Interval(low=math.exp(logs.low), high=math.exp(logs.high))


def independent_difference(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """95 % interval of a difference of two shares, (successes, total) each, of unlike images (Newcombe 1998)."""
    shares = [successes / total for successes, total in (first, second)]
    sure = [wilson_interval(*first), wilson_interval(*second)]
    difference = shares[0] - shares[1]
    return Interval(
        low=difference - math.hypot(shares[0] - sure[0].low, sure[1].high - shares[1]),
        high=difference + math.hypot(sure[0].high - shares[0], shares[1] - sure[1].low),
    )


def paired_difference(gained: int, lost: int, total: int) -> Interval:
    """95 % score interval of a difference of two accuracies on the same images (Tango 1998).

    ``gained`` images are right only in the second, ``lost`` only in the first. Found by root search, as scipy and
    scikit-learn have none.
    """
    from scipy.optimize import brentq  # noqa: PLC0415 - a tenth of a second, and not every table needs it

    z = float(ndtri(0.975))
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
