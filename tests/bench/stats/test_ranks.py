"""Rank intervals: properties for any comparison, and coverage of the true ranks in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats.intervals import wilson_interval
from bench.stats.pairs import ALPHA, PairwiseTests, Right, compare_all
from bench.stats.ranks import (
    RankInterval,
    best_probabilities,
    bounds_to_best,
    images_for_margin,
    rank_intervals,
)
from tests.helpers.correlated import drawn

PROMISE = 0.93
THREE = (0.85, 0.8, 0.8)
FIVE = (0.9, 0.9, 0.7, 0.7, 0.5)
TEN = (0.9, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.75, 0.7, 0.6)


def made_up(accuracies: list[float], apart: np.ndarray) -> PairwiseTests:
    """Return a comparison in which the pairs marked above the diagonal differ significantly, unless they tie."""
    values = np.array(accuracies, dtype=float)
    differences = values[:, None] - values[None, :]
    p_values = np.where((apart | apart.T) & (differences != 0), ALPHA / 2, 1.0)
    return PairwiseTests(differences=differences, p_values=p_values, holm=p_values)


@st.composite
def comparisons(draw: st.DrawFn) -> PairwiseTests:
    """Any accuracies, including ties, with any pairs significantly different, transitive or not."""
    accuracies = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0]), max_size=8))
    size = len(accuracies)
    marks = draw(st.lists(st.booleans(), min_size=size**2, max_size=size**2))
    return made_up(accuracies, np.triu(np.array(marks, dtype=bool).reshape(size, size), 1))


def holds(interval: RankInterval, ranks: RankInterval) -> bool:
    return interval.best <= ranks.best and ranks.worst <= interval.worst


@pytest.mark.parametrize(("interval", "text"), [(RankInterval(1, 1), "1"), (RankInterval(1, 3), "1-3")])
def test_rank_interval_as_text(interval: RankInterval, text: str) -> None:
    assert str(interval) == text


def test_ranks_follow_significant_differences() -> None:
    apart = np.zeros((4, 4), dtype=bool)
    apart[0, 2] = apart[0, 3] = apart[1, 3] = True
    found = rank_intervals(made_up([0.9, 0.85, 0.8, 0.7], apart))
    assert [str(interval) for interval in found] == ["1-2", "1-3", "2-4", "3-4"]


def test_ranks_of_no_row_and_of_one() -> None:
    assert rank_intervals(compare_all([])) == []
    assert rank_intervals(compare_all([np.ones((1, 9), dtype=bool)])) == [RankInterval(1, 1)]


@given(comparison=comparisons())
def test_ranks_exclude_the_significant_rows(comparison: PairwiseTests) -> None:
    size = len(comparison.holm)
    for row, interval in enumerate(rank_intervals(comparison)):
        significant = comparison.differences[row][comparison.apart[row]]
        better, worse = int((significant < 0).sum()), int((significant > 0).sum())
        assert interval == RankInterval(1 + better, size - worse)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), models=st.integers(2, 8), images=st.integers(1, 400))
def test_better_row_precedes_at_both_ends(seed: int, models: int, images: int) -> None:
    """Exact McNemar is transitive: a row better than the better one of a pair is better than the other, too."""
    rng = np.random.default_rng(seed)
    comparison = compare_all(drawn(rng, rng.uniform(0.3, 0.98, models).tolist(), images=images))
    found = rank_intervals(comparison)
    for high, low in np.argwhere(comparison.apart & (comparison.differences > 0)).tolist():
        assert found[high].best < found[low].best
        assert found[high].worst < found[low].worst


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 3, 5]), models=st.integers(1, 6))
def test_equal_models_may_have_any_rank(seed: int, seeds: int, models: int) -> None:
    model = drawn(np.random.default_rng(seed), [0.8], seeds=seeds, images=60)[0]
    assert rank_intervals(compare_all([model] * models)) == [RankInterval(1, models)] * models


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_different_models_have_one_rank_each(seeds: int) -> None:
    """Coverage alone does not exclude intervals that are too long."""
    found = rank_intervals(compare_all(drawn(np.random.default_rng(0), [0.4, 0.95, 0.7], seeds=seeds, images=2000)))
    assert [str(interval) for interval in found] == ["3", "1", "2"]


def true_ranks(accuracies: tuple[float, ...]) -> list[RankInterval]:
    """Return the true rank of each model; tied models may have any of the ranks they share."""
    return [
        RankInterval(
            1 + sum(other > accuracy for other in accuracies),
            len(accuracies) - sum(other < accuracy for other in accuracies),
        )
        for accuracy in accuracies
    ]


def table_holds(models: list[Right], accuracies: tuple[float, ...]) -> bool:
    return all(map(holds, rank_intervals(compare_all(models)), true_ranks(accuracies)))


@pytest.mark.parametrize(
    ("seeds", "accuracies", "tables", "luck"),
    [
        (1, THREE, 600, 0.0),
        (1, FIVE, 600, 0.0),
        (1, TEN, 600, 0.0),
        (1, (0.8,) * 10, 600, 0.0),
        (3, THREE, 250, 0.0),
        (3, FIVE, 150, 0.0),
        (3, TEN, 60, 0.0),
        (5, THREE, 250, 0.15),
        (5, FIVE, 150, 0.0),
        (5, TEN, 60, 0.15),
    ],
)
def test_intervals_contain_the_true_ranks(seeds: int, accuracies: tuple[float, ...], tables: int, luck: float) -> None:
    """One seed uses McNemar's test, three the sign-flip test, five Welch's test; every table contains ties."""
    rng = np.random.default_rng([seeds, len(accuracies)])
    held = sum(table_holds(drawn(rng, list(accuracies), seeds=seeds, luck=luck), accuracies) for _ in range(tables))
    assert wilson_interval(held, tables, confidence=0.99).high >= PROMISE, f"{held} of {tables}"


def test_probability_of_being_best() -> None:
    sure = np.ones((1, 100), dtype=bool)
    wrong = np.zeros((1, 100), dtype=bool)
    assert best_probabilities([wrong, sure]).tolist() == [0, 1]
    assert best_probabilities([sure, sure, wrong]).tolist() == [0.5, 0.5, 0]
    assert best_probabilities([]).tolist() == []


@pytest.mark.parametrize("cluster", [1, 6])
def test_equal_models_are_equally_often_the_best(cluster: int) -> None:
    """And a probability of 97.5 % for one of two equal models is rare, with groups too."""
    rng, groups = np.random.default_rng(cluster), np.arange(180) // cluster
    tables = [drawn(rng, [0.8, 0.8], seeds=2, cluster=cluster) for _ in range(300)]
    found = np.array([best_probabilities(table, groups)[0] for table in tables])
    assert found.mean() == pytest.approx(0.5, abs=4 * found.std() / np.sqrt(len(found)))
    sure = int((np.maximum(found, 1 - found) > 0.975).sum())
    assert wilson_interval(sure, len(found), confidence=0.99).low <= 0.05, f"{sure} of {len(found)}"


@pytest.mark.parametrize(
    ("seeds", "accuracies", "tables", "cluster"),
    [
        (1, (0.85, 0.84, 0.84), 300, 1),
        (1, (0.8, 0.8, 0.8, 0.79, 0.79, 0.6), 60, 6),
        (3, (0.85, 0.84, 0.84), 150, 1),
        (5, (0.9, 0.89, 0.88), 100, 1),
    ],
)
def test_bounds_to_the_best_hold_together(seeds: int, accuracies: tuple[float, ...], tables: int, cluster: int) -> None:
    rng, groups = np.random.default_rng([seeds, cluster]), np.arange(180) // cluster
    true = np.array(accuracies) - max(accuracies)
    held = 0
    for _ in range(tables):
        found = bounds_to_best(drawn(rng, list(accuracies), seeds=seeds, cluster=cluster), groups)
        held += all(one.low <= difference + 1e-12 for one, difference in zip(found, true, strict=True))
    assert wilson_interval(held, tables, confidence=0.99).high >= 0.95, f"{held} of {tables}"


def test_bounds_become_short_with_many_images() -> None:
    models = drawn(np.random.default_rng(0), [0.9, 0.895, 0.8], images=20_000)
    best, near, far = bounds_to_best(models)
    assert -0.002 < best.low <= 0
    assert -0.02 < near.low < near.difference < 0
    assert far.low < -0.08


def test_bounds_of_one_row_and_of_equal_rows() -> None:
    right = np.arange(50)[None] % 5 > 0
    assert [one.low for one in bounds_to_best([right])] == [0]
    assert all(-0.2 < one.low < 0 for one in bounds_to_best([right, right.copy()]))


def test_images_for_a_margin() -> None:
    """As many as bring the bound of the same difference above the margin."""
    models = drawn(np.random.default_rng(0), [0.9, 0.895], images=500)
    (_, row) = bounds_to_best(models)
    number = images_for_margin(row, 0.03, 500)
    assert number is not None
    assert number > 500
    (_, again) = bounds_to_best([np.tile(model, -(-number // 500)) for model in models])
    assert again.low > -0.03
    (_, fewer) = bounds_to_best([np.tile(model, -(-number // 1000)) for model in models])
    assert fewer.low < -0.03
    assert images_for_margin(row, -row.difference, 500) is None
