"""Intervals of the expected accuracy over images and seeds: limits, monotony, and coverage in simulation."""

from typing import Any

import numpy as np
import pytest

from bench.stats.groups import (
    LEAST_FREEDOM,
    PRIOR_SD,
    SeedComponent,
    component_of_values,
    proportion_interval,
    repeated_interval,
    seed_component,
)
from bench.stats.intervals import Interval, wilson_interval
from bench.stats.pairs import Right
from tests.helpers.correlated import drawn

NO_SEEDS = SeedComponent(variance=0.0, mean_square=0.0, freedom=3.0, observed=3)
ROWS = [0.9, 0.85, 0.8, 0.9]


def length(interval: Interval) -> float:
    return interval.high - interval.low


def test_one_checkpoint_without_variance_of_seeds_has_wilsons_interval() -> None:
    (right,) = drawn(np.random.default_rng(0), [0.8])
    found, wilson = repeated_interval(right, None, NO_SEEDS), wilson_interval(int(right.sum()), right.size)
    assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))
    groups = np.arange(180) // 6
    found, grouped = repeated_interval(right, groups, NO_SEEDS), proportion_interval(right[0], groups)
    assert (found.low, found.high) == (pytest.approx(grouped.low), pytest.approx(grouped.high))


@pytest.mark.parametrize("share", [0, 1])
def test_limits_at_0_and_100_percent_are_wilsons(share: int) -> None:
    right = np.full((3, 50), share, dtype=bool)
    component = SeedComponent(variance=0.04, mean_square=0.05, freedom=4.0, observed=4)
    assert repeated_interval(right, None, component) == wilson_interval(50 * share, 50)


def test_no_row_with_several_seeds_has_no_component() -> None:
    assert seed_component(drawn(np.random.default_rng(0), ROWS)) is None
    assert component_of_values([np.array([0.8]), np.array([0.9])]) is None


def test_component_of_many_seeds_is_that_of_the_simulation() -> None:
    """The standard deviation of accuracies near 0.5, on so many images that these hardly matter."""
    models = drawn(np.random.default_rng(0), [0.5] * 8, seeds=40, images=4000, luck=0.2)
    component = seed_component(models)
    assert component is not None
    # A normal deviate with this standard deviation, among others of variance 1, in logits: 4 / sqrt(2 pi).
    assert np.sqrt(component.variance) == pytest.approx(0.2 * 4 / np.sqrt(2 * np.pi), rel=0.1)
    assert component.freedom == 8 * 39


@pytest.mark.parametrize("sizes", [[1] * 400, [100] * 4, [300, 50, 50]])
def test_component_is_that_of_the_seeds_whatever_the_groups(sizes: list[int]) -> None:
    """Logits of 0.5 between seeds; what images explain contains a part of it where groups are few or uneven."""
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    skills = 1 / (1 + np.exp(-rng.normal(0, 0.5, (60, 8))))
    models = [rng.random((8, 400)) < skill[:, None] for skill in skills]
    component = seed_component(models, groups)
    assert component is not None
    assert np.sqrt(component.variance) == pytest.approx(0.47, rel=0.1)


@pytest.mark.parametrize("seeds", [2, 3])
def test_prior_stands_for_missing_degrees_of_freedom(seeds: int) -> None:
    equal = np.tile(np.arange(100) < 80, (seeds, 1))
    component = seed_component([equal])
    assert component is not None
    missing = LEAST_FREEDOM - (seeds - 1)
    assert (component.freedom, component.mean_square) == (3, pytest.approx(missing * PRIOR_SD**2 / 3))


def test_values_of_seeds_have_the_component_of_their_variance() -> None:
    values = [np.array([0.8, 0.9, 0.85, 0.75]), np.array([0.7])]
    component = component_of_values(values)
    mean = values[0].mean()
    assert component is not None
    assert (
        component.variance == component.mean_square == pytest.approx(values[0].var(ddof=1) / (mean * (1 - mean)) ** 2)
    )


@pytest.mark.parametrize("luck", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("cluster", [1, 6])
def test_another_seed_does_not_lengthen_the_interval_on_average(luck: float, cluster: int) -> None:
    """At a fixed component."""
    rng, groups = np.random.default_rng(0), np.arange(180) // cluster
    component = SeedComponent(variance=4 * luck**2, mean_square=4 * luck**2 + 0.01, freedom=6.0, observed=6)
    lengths = np.zeros((100, 5))
    for lengths_of_seeds in lengths:
        (right,) = drawn(rng, [0.85], seeds=5, luck=luck, cluster=cluster)
        for seeds in range(1, 6):
            lengths_of_seeds[seeds - 1] = length(repeated_interval(right[:seeds], groups, component))
    assert (np.diff(lengths.mean(axis=0)) < 0).all()


def test_two_seeds_say_more_than_one() -> None:
    """The interval over two seeds alone, with one degree of freedom, would be several times as long."""
    rng = np.random.default_rng(0)
    pairs = [drawn(rng, [0.95], seeds=2, images=200)[0] for _ in range(200)]
    components = [seed_component([pair]) for pair in pairs]
    two = [length(repeated_interval(pair, None, own)) for pair, own in zip(pairs, components, strict=True) if own]
    one = [length(proportion_interval(pair[0], None)) for pair in pairs]
    assert np.mean(two) < 1.1 * np.mean(one)


def coverage(rng: np.random.Generator, tables: int, models: Any, accuracies: list[float], cluster: int) -> list[float]:
    """Return the share of tables in which the interval of each row contains its expected accuracy."""
    held = np.zeros(len(accuracies))
    for _ in range(tables):
        rows: list[Right] = models(rng)
        groups = np.arange(rows[0].shape[1]) // cluster
        component = seed_component(rows, groups)
        for place, (row, accuracy) in enumerate(zip(rows, accuracies, strict=True)):
            interval = (
                proportion_interval(row[0], groups) if component is None else repeated_interval(row, groups, component)
            )
            held[place] += interval.low <= accuracy <= interval.high
    return [float(share) for share in held / tables]


@pytest.mark.parametrize("cluster", [1, 6])
@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (2, 0.0), (2, 0.1), (3, 0.0), (3, 0.1), (5, 0.0), (5, 0.1)])
def test_coverage_with_equal_variance_of_seeds(seeds: int, luck: float, cluster: int) -> None:
    """Luck of 0.1 is a standard deviation of 1.8 pp between seeds at 90 %. One seed: the checkpoint's accuracy."""
    found = coverage(
        np.random.default_rng([seeds, cluster]),
        300,
        lambda rng: drawn(rng, ROWS, seeds=seeds, images=250, luck=luck, cluster=cluster),
        ROWS,
        cluster,
    )
    for share in found:
        assert wilson_interval(300 * share, 300, confidence=0.99).high >= 0.93, found
    assert np.mean(found) >= 0.93


@pytest.mark.parametrize("cluster", [1, 6])
def test_row_of_one_seed_has_the_component_of_the_others(cluster: int) -> None:
    found = coverage(
        np.random.default_rng(cluster),
        300,
        lambda rng: [
            row[: 3 if place else 1]
            for place, row in enumerate(drawn(rng, ROWS, seeds=3, images=250, luck=0.1, cluster=cluster))
        ],
        ROWS,
        cluster,
    )
    assert wilson_interval(300 * found[0], 300, confidence=0.99).high >= 0.93, found


def test_coverage_on_average_with_unequal_variances_of_seeds() -> None:
    """The rows with the largest variance are covered less often: docs/statistics.md states how often."""
    lucks = [0.0, 0.05, 0.1, 0.2]
    found = coverage(
        np.random.default_rng(0),
        400,
        lambda rng: [
            drawn(rng, [accuracy], seeds=3, images=250, luck=luck)[0]
            for accuracy, luck in zip(ROWS, lucks, strict=True)
        ],
        ROWS,
        1,
    )
    assert np.mean(found) >= 0.93, found
    assert min(found) >= 0.8, found
