"""Tests of log losses: a reference implementation, agreement of intervals and tests, and error rates in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from bench.stats import losses as losses_module
from bench.stats.intervals import wilson_interval
from bench.stats.losses import compare_losses
from bench.stats.pairs import ALPHA, compare_all
from tests.helpers.correlated import with_losses


def test_p_value_is_that_of_scipy() -> None:
    """All 2^12 signs of 12 images; ours draws 10,000 of them."""
    rng = np.random.default_rng(0)
    first, second = rng.exponential(size=12), rng.exponential(size=12) * 1.7
    exact = permutation_test(
        (second, first), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    found = compare_losses([first[None], second[None]])
    assert found.p_values[0, 1] == pytest.approx(exact, abs=0.02)
    assert found.differences[0, 1] == pytest.approx(first.mean() - second.mean())
    assert found.differences[1, 0] == -found.differences[0, 1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), models=st.integers(2, 4), seeds=st.sampled_from([1, 3, 5]), shift=st.floats(0, 0.6))
def test_intervals_agree_with_tests(seed: int, models: int, seeds: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 25, 60)
    losses = [rng.exponential(size=(seeds, 60)) + shift * place for place in range(models)]
    found = compare_losses(losses, groups)
    for row, column in zip(*np.triu_indices(models, 1), strict=True):
        low, high = found.low[row, column], found.high[row, column]
        significant = found.holm[row, column] <= ALPHA
        assert not low < 0 < high if significant else low <= 0 <= high
        assert found.low[row, column] <= found.differences[row, column] <= found.high[row, column]
        assert (found.low[column, row], found.high[column, row]) == (-found.high[row, column], -found.low[row, column])


def test_copies_of_images_add_nothing() -> None:
    """Ten copies of each image, as groups, are the images."""
    rng = np.random.default_rng(0)
    losses = [rng.exponential(size=(1, 50)), rng.exponential(size=(1, 50))]
    copied = [np.repeat(each, 10, axis=1) for each in losses]
    once, grouped = compare_losses(losses), compare_losses(copied, np.repeat(np.arange(50), 10))
    np.testing.assert_allclose(once.low, grouped.low)
    np.testing.assert_allclose(once.p_values, grouped.p_values)


def test_blocks_of_many_images_test_as_single_images_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images in the order of their classes, whose losses differ by more than the models' do."""
    rng = np.random.default_rng(0)
    classes = np.repeat([0.0, 3.0, 0.0, 1.0], 500) * np.array([1, -1, 1, -1]).repeat(500)
    first = rng.exponential(size=(1, 2000))
    second = first + classes - classes.mean() + rng.normal(0.09, 1, (1, 2000))
    single = compare_losses([first, second])
    monkeypatch.setattr(losses_module, "MOST_SIGNS", 400)
    blocks = compare_losses([first, second])
    assert blocks.differences[0, 1] == pytest.approx(single.differences[0, 1])
    assert blocks.p_values[0, 1] == pytest.approx(single.p_values[0, 1], abs=0.03)
    assert blocks.low[0, 1] == pytest.approx(single.low[0, 1], abs=0.01)
    assert blocks.high[0, 1] == pytest.approx(single.high[0, 1], abs=0.01)
    assert 0 < single.p_values[0, 1] < 0.9


@pytest.mark.parametrize(("models", "flips"), [(12, 66 * losses_module.FLIPS_PER_PAIR), (50, losses_module.FLIPS)])
def test_more_signs_are_drawn_only_where_they_can_decide(models: int, flips: int) -> None:
    """Of 50 models 1,225 pairs are tested: no number of signs up to the most makes a pair significant."""
    rng = np.random.default_rng(0)
    worst = rng.exponential(size=(1, 40)) + 9
    found = compare_losses([worst, *(rng.exponential(size=(1, 40)) for _ in range(models - 1))])
    assert found.p_values[0, 1] == pytest.approx(2 / (flips + 1))
    assert np.isinf(found.low[0, 1]) == (models == 50)


@pytest.mark.parametrize(
    ("seeds", "cluster", "luck", "tables"), [(1, 1, 0.0, 300), (3, 6, 0.0, 200), (5, 1, 0.15, 200)]
)
def test_false_differences_and_intervals(seeds: int, cluster: int, luck: float, tables: int) -> None:
    """Four equal models: any significant pair is an error, and intervals of all pairs contain 0 together."""
    rng = np.random.default_rng([seeds, cluster])
    groups = np.arange(180) // cluster
    wrong = missed = 0
    for _ in range(tables):
        _, losses = with_losses(rng, [0.85] * 4, seeds=seeds, cluster=cluster, luck=luck)
        found = compare_losses(losses, groups)
        wrong += bool((found.holm <= ALPHA).any())
        missed += bool(((found.low > 0) | (found.high < 0)).any())
    assert wilson_interval(wrong, tables, confidence=0.99).low <= ALPHA, f"{wrong} of {tables}"
    assert wilson_interval(tables - missed, tables, confidence=0.99).high >= 0.93, f"{missed} of {tables} missed"


def test_log_loss_finds_with_half_the_images_what_accuracy_finds() -> None:
    # Enough tables: with half the images, accuracy itself finds about half as many, 45 fewer of 150; the limit is 12.
    rng, tables = np.random.default_rng(3), 150
    by_accuracy = by_loss = 0
    for _ in range(tables):
        right, losses = with_losses(rng, [0.87, 0.9], images=1200)
        by_accuracy += bool(compare_all(right).apart[0, 1])
        by_loss += bool(compare_losses([each[:, :600] for each in losses]).holm[0, 1] <= ALPHA)
    assert by_loss > by_accuracy - 2 * np.sqrt(tables * 0.25)
    assert by_accuracy / tables == pytest.approx(0.8, abs=0.1)
