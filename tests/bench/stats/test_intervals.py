"""Intervals: published examples, other implementations, and coverage in simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, sem, t
from statsmodels.stats.proportion import confint_proportions_2indep

from bench.stats.intervals import (
    independent_difference,
    mean_interval,
    paired_difference,
    quantiles,
    ratio_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("gained", "lost", "total", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Bentur et al. 2009 in Fagerland, Lydersen and Laake 2014
        (40, 20, 160, 0.031, 0.218),  # the example of R's PropCIs::scoreci.mp
    ],
)
def test_paired_interval_is_tangos(gained: int, lost: int, total: int, low: float, high: float) -> None:
    interval = paired_difference(gained, lost, total)
    assert (round(interval.low, 3), round(interval.high, 3)) == (low, high)


@given(counts=st.tuples(*[st.integers(0, 200)] * 3).filter(lambda counts: sum(counts) > 0))
def test_paired_interval_contains_and_mirrors(counts: tuple[int, int, int]) -> None:
    gained, lost, equal = counts
    total = sum(counts)
    interval, mirrored = paired_difference(gained, lost, total), paired_difference(lost, gained, total)
    assert -1 <= interval.low <= (gained - lost) / total <= interval.high <= 1
    assert mirrored.low == pytest.approx(-interval.high, abs=1e-6)
    assert equal < total or interval.high > 0  # even if no image changed


def test_paired_interval_covers_95_percent() -> None:
    rng = np.random.default_rng(0)
    total, gains, losses = 180, 0.04, 0.08
    draws = rng.multinomial(total, [gains, losses, 1 - gains - losses], size=2000)
    intervals = [paired_difference(int(gained), int(lost), total) for gained, lost, _ in draws]
    covered = np.mean([interval.low <= gains - losses <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.975


def test_ratio_interval_ignores_shared_noise() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        slowed = np.exp(rng.normal(0, 0.3, 5))
        interval = ratio_interval(2 * slowed * np.exp(rng.normal(0, 0.02, 5)), slowed * np.exp(rng.normal(0, 0.02, 5)))
        hits += interval.low <= 2 <= interval.high
    assert 0.93 <= hits / 1000 <= 0.97


def test_equal_values_have_zero_width() -> None:
    interval = mean_interval([3.0, 3.0, 3.0])
    assert interval.low == interval.high == 3.0


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_share_interval_is_wilsons(right: int, total: int, low: float, high: float) -> None:
    interval = wilson_interval(right, total)  # Newcombe 1998, Table I, method 3
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_independent_difference_is_newcombes() -> None:
    interval = independent_difference((56, 70), (48, 80))  # Newcombe 1998 (differences), Table II (a), method 10
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0524, 0.3339)


@given(values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), share=st.floats(0, 1))
def test_quantiles_equal_numpys(values: list[float], share: float) -> None:
    assert quantiles(np.array(values), share) == [float(np.quantile(values, share))]


@given(counts=st.tuples(*[st.integers(0, 200)] * 4).filter(lambda counts: sum(counts[:2]) > 0 < sum(counts[2:])))
def test_intervals_equal_scipy_and_statsmodels(counts: tuple[int, int, int, int]) -> None:
    first, second = (counts[0], counts[0] + counts[1]), (counts[2], counts[2] + counts[3])
    found, wilson = wilson_interval(*first), binomtest(*first).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12)
    gap, newcombe = independent_difference(first, second), confint_proportions_2indep(*first, *second, method="newcomb")
    assert (gap.low, gap.high) == pytest.approx(newcombe, abs=1e-12)


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20).filter(lambda values: np.ptp(values) > 1e-3))
def test_mean_interval_is_scipys(values: list[float]) -> None:
    found, expected = mean_interval(values), t.interval(0.95, len(values) - 1, np.mean(values), sem(values))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9, abs=1e-9)
