"""Rank intervals: laws that hold for any comparison, and how often the intervals hold the true ranks."""

import gc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats.intervals import wilson_interval
from bench.stats.pairs import ALPHA, PairwiseTests, Right, compare_all
from bench.stats.ranks import RankInterval, rank_intervals
from tests.helpers.correlated import drawn

PROMISE = 0.93
THREE = (0.85, 0.8, 0.8)
FIVE = (0.9, 0.9, 0.7, 0.7, 0.5)
TEN = (0.9, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.75, 0.7, 0.6)


@pytest.fixture(autouse=True)
def _no_collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """statsmodels collects garbage at every correction: 40 ms, thousands of times here."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def made_up(accuracies: list[float], apart: np.ndarray) -> PairwiseTests:
    """A comparison that tells apart the pairs marked above the diagonal, as far as their accuracies differ."""
    values = np.array(accuracies, dtype=float)
    differences = values[None, :] - values[:, None]
    p_values = np.where((apart | apart.T) & (differences != 0), ALPHA / 2, 1.0)
    return PairwiseTests(differences=differences, p_values=p_values, holm=p_values)


@st.composite
def comparisons(draw: st.DrawFn) -> PairwiseTests:
    """Any accuracies, ties included, with any pairs significantly different, transitive or not."""
    accuracies = draw(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0]), max_size=8))
    size = len(accuracies)
    marks = draw(st.lists(st.booleans(), min_size=size**2, max_size=size**2))
    return made_up(accuracies, np.triu(np.array(marks, dtype=bool).reshape(size, size), 1))


def observed(comparison: PairwiseTests) -> list[RankInterval]:
    """The ranks by the scores alone; equal scores share theirs."""
    higher = comparison.differences > 0
    size = len(higher)
    return [RankInterval(1 + int(higher[i].sum()), size - int(higher[:, i].sum())) for i in range(size)]


def holds(interval: RankInterval, ranks: RankInterval) -> bool:
    return interval.best <= ranks.best and ranks.worst <= interval.worst


@pytest.mark.parametrize(("interval", "text"), [(RankInterval(1, 1), "1"), (RankInterval(1, 3), "1-3")])
def test_an_interval_of_one_rank_reads_as_that_rank(interval: RankInterval, text: str) -> None:
    assert str(interval) == text


def test_each_row_told_apart_moves_one_end_by_one() -> None:
    apart = np.zeros((4, 4), dtype=bool)
    apart[0, 2] = apart[0, 3] = apart[1, 3] = True
    found = rank_intervals(made_up([0.9, 0.85, 0.8, 0.7], apart))
    assert [str(interval) for interval in found] == ["1-2", "1-3", "2-4", "3-4"]


def test_a_table_without_rows_has_no_ranks() -> None:
    assert rank_intervals(compare_all([])) == []


def test_one_row_is_first() -> None:
    assert rank_intervals(compare_all([np.ones((1, 9), dtype=bool)])) == [RankInterval(1, 1)]


@given(comparison=comparisons())
def test_ranks_lie_between_one_and_the_number_of_rows(comparison: PairwiseTests) -> None:
    found = rank_intervals(comparison)
    assert len(found) == len(comparison.differences)
    assert all(1 <= interval.best <= interval.worst <= len(found) for interval in found)


@given(comparison=comparisons())
def test_an_interval_holds_the_rank_by_score(comparison: PairwiseTests) -> None:
    """No more rows are significantly better than score higher, whatever differs."""
    assert all(map(holds, rank_intervals(comparison), observed(comparison)))


@given(comparison=comparisons())
def test_each_pair_told_apart_takes_one_rank_from_each_of_its_two_rows(comparison: PairwiseTests) -> None:
    found = rank_intervals(comparison)
    pairs = int(comparison.apart.sum()) // 2
    assert sum(interval.best - 1 for interval in found) == pairs
    assert sum(len(found) - interval.worst for interval in found) == pairs


@given(comparison=comparisons())
def test_a_row_told_to_be_worse_cannot_be_first_nor_one_told_to_be_better_last(comparison: PairwiseTests) -> None:
    found = rank_intervals(comparison)
    for low, high in np.argwhere(comparison.apart & (comparison.differences > 0)).tolist():
        assert found[low].best > 1
        assert found[high].worst < len(found)


@given(comparison=comparisons(), data=st.data())
def test_the_order_of_the_rows_does_not_matter(comparison: PairwiseTests, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(comparison.holm))))
    places = np.ix_(order, order)
    moved = PairwiseTests(
        differences=comparison.differences[places], p_values=comparison.p_values[places], holm=comparison.holm[places]
    )
    found = rank_intervals(comparison)
    assert rank_intervals(moved) == [found[place] for place in order]


@given(comparison=comparisons(), data=st.data())
def test_fewer_pairs_told_apart_never_shorten_an_interval(comparison: PairwiseTests, data: st.DataObject) -> None:
    pairs = list(zip(*np.triu_indices(len(comparison.holm), 1), strict=True))
    holm = comparison.holm.copy()
    for i, j in data.draw(st.lists(st.sampled_from(pairs))) if pairs else []:
        holm[i, j] = holm[j, i] = 1.0
    fewer = PairwiseTests(differences=comparison.differences, p_values=comparison.p_values, holm=holm)
    assert all(map(holds, rank_intervals(fewer), rank_intervals(comparison)))


@given(accuracies=st.lists(st.integers(0, 100), unique=True, min_size=1, max_size=8))
def test_rows_all_told_apart_have_one_rank_each(accuracies: list[int]) -> None:
    size = len(accuracies)
    found = rank_intervals(made_up([value / 100 for value in accuracies], np.ones((size, size), dtype=bool)))
    ranks = [1 + sorted(accuracies, reverse=True).index(value) for value in accuracies]
    assert found == [RankInterval(rank, rank) for rank in ranks]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), models=st.integers(2, 8), images=st.integers(1, 400))
def test_a_row_told_to_be_better_lies_before_the_other_at_both_ends(seed: int, models: int, images: int) -> None:
    """Exact McNemar is transitive: what is above the better of two that differ is above the worse, too."""
    rng = np.random.default_rng(seed)
    comparison = compare_all(drawn(rng, rng.uniform(0.3, 0.98, models).tolist(), images=images))
    found = rank_intervals(comparison)
    for low, high in np.argwhere(comparison.apart & (comparison.differences > 0)).tolist():
        assert found[high].best < found[low].best
        assert found[high].worst < found[low].worst


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 3, 5]), models=st.integers(1, 6))
def test_models_that_answer_alike_may_have_any_rank(seed: int, seeds: int, models: int) -> None:
    model = drawn(np.random.default_rng(seed), [0.8], seeds=seeds, images=60)[0]
    assert rank_intervals(compare_all([model] * models)) == [RankInterval(1, models)] * models


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_models_far_apart_have_one_rank_each(seeds: int) -> None:
    """The other side of coverage: intervals that are too long hold the true ranks as well."""
    found = rank_intervals(compare_all(drawn(np.random.default_rng(0), [0.4, 0.95, 0.7], seeds=seeds, images=2000)))
    assert [str(interval) for interval in found] == ["3", "1", "2"]


def true_ranks(accuracies: tuple[float, ...]) -> list[RankInterval]:
    """The true rank of each model; models that tie may have any of the ranks they share."""
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
def test_the_intervals_of_a_whole_table_hold_the_true_ranks(
    seeds: int, accuracies: tuple[float, ...], tables: int, luck: float
) -> None:
    """One seed is McNemar's test, three are the sign flip, five are Welch's; every table has models that tie."""
    rng = np.random.default_rng([seeds, len(accuracies)])
    held = sum(table_holds(drawn(rng, list(accuracies), seeds=seeds, luck=luck), accuracies) for _ in range(tables))
    assert wilson_interval(held, tables, confidence=0.99).high >= PROMISE, f"{held} of {tables}"
