"""Statistics of test images in groups: references, reduction to independent images, and error rates in simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster

from bench.stats.grouped_macro import grouped_macro_intervals
from bench.stats.groups import (
    design_effect,
    effective_size,
    number_of,
    proportion_interval,
    summed,
    variance_of_mean,
)
from bench.stats.intervals import wilson_interval
from bench.stats.macro import macro_intervals, macro_scores
from bench.stats.pairs import ALPHA, Right, compare_all, compare_pair
from bench.stats.power import power_of
from bench.stats.resampling import resampled_accuracies
from tests.helpers.correlated import drawn

TENS = np.arange(200) // 10


def test_sums_are_those_of_each_group() -> None:
    values = np.array([[1, 2, 3, 4], [0, 1, 0, 1]])
    assert summed(values, np.array([7, 3, 7, 3])).tolist() == [[6, 4], [2, 0]]
    assert summed(values[1] > 0, np.array([0, 1, 1, 1])).tolist() == [0, 2]


def test_variance_is_that_of_cluster_robust_regression() -> None:
    rng = np.random.default_rng(0)
    groups = np.sort(rng.integers(0, 15, 90))
    values = rng.normal(size=90) + rng.normal(size=15)[groups]
    expected = cov_cluster(OLS(values, np.ones(90)).fit(), groups)[0, 0]
    assert float(variance_of_mean(values, groups)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 3, 5]), images=st.integers(2, 60))
def test_single_images_change_nothing(seed: int, seeds: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = drawn(rng, [0.6, 0.8], seeds=seeds, images=images)
    alone = rng.permutation(images)
    assert compare_pair(first, second, alone) == compare_pair(first, second)
    assert power_of([first, second], alone) == power_of([first, second])
    assert compare_all([first, second], alone).holm.tolist() == compare_all([first, second]).holm.tolist()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 2, 5]), copies=st.integers(2, 6))
def test_copies_add_no_evidence(seed: int, seeds: int, copies: int) -> None:
    first, second = drawn(np.random.default_rng(seed), [0.6, 0.8], seeds=seeds, images=40)
    groups = np.repeat(np.arange(40), copies)
    copied = compare_pair(first.repeat(copies, axis=1), second.repeat(copies, axis=1), groups)
    original = compare_pair(first, second)
    assert copied.p_value == pytest.approx(original.p_value, abs=1e-9)
    assert copied.difference == pytest.approx(original.difference)
    # The halves of two seeds are rounded to whole images, less coarsely if there are copies.
    least = 0.95 if seeds == 2 else 0.999
    assert copied.interval.high - copied.interval.low >= least * (original.interval.high - original.interval.low)


def test_sign_flips_by_group_are_exact() -> None:
    rng = np.random.default_rng(1)
    first, second = drawn(rng, [0.6, 0.8], images=36, cluster=3)
    groups = np.arange(36) // 3
    sums = summed(second.mean(axis=0) - first.mean(axis=0), groups)
    exact = permutation_test((sums,), lambda x: x.sum(), permutation_type="samples", n_resamples=10**6)
    assert compare_pair(first, second, groups).p_value == pytest.approx(exact.pvalue, abs=1e-9)
    assert compare_all([first, second], groups).p_values[0, 1] == pytest.approx(exact.pvalue, abs=1e-9)


@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.0), (5, 0.15)])
def test_false_positives_with_clusters_of_ten(seeds: int, luck: float) -> None:
    rng, tables, options = np.random.default_rng(seeds), 500, {"seeds": seeds, "luck": luck, "images": 200}
    tested = [drawn(rng, [0.8] * 3, cluster=10, **options) for _ in range(tables)]
    wrong = sum(bool(compare_all(models, TENS).apart.any()) for models in tested)
    naive = sum(bool(compare_all(models).apart.any()) for models in tested)
    assert binomtest(wrong, tables, ALPHA, alternative="greater").pvalue > 0.01, f"{wrong} of {tables}"
    assert naive > 3 * ALPHA * tables, "the simulation must be one in which groups matter"


@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("images", [200, 600])
def test_accuracy_interval_covers(accuracy: float, images: int) -> None:
    rng, groups = np.random.default_rng(2), np.arange(images) // 10
    right = [drawn(rng, [accuracy], images=images, cluster=10)[0][0] for _ in range(600)]
    found = [proportion_interval(one, groups) for one in right]
    covered = sum(interval.low <= accuracy <= interval.high for interval in found)
    assert binomtest(covered, 600, 0.93, alternative="less").pvalue > 0.01, f"{covered} of 600"
    naive = [wilson_interval(int(one.sum()), images) for one in right]
    assert sum(interval.low <= accuracy <= interval.high for interval in naive) < 0.8 * 600


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_difference_interval_covers(seeds: int) -> None:
    rng = np.random.default_rng(3)
    tables = [drawn(rng, [0.75, 0.85], seeds=seeds, images=200, cluster=10) for _ in range(500)]
    found = [compare_pair(second, first, TENS).interval for first, second in tables]
    covered = sum(interval.low <= 0.1 <= interval.high for interval in found)
    assert binomtest(covered, 500, 0.93, alternative="less").pvalue > 0.01, f"{covered} of 500"


@pytest.mark.parametrize(("seeds", "images"), [(1, 200), (1, 600), (3, 600)])
def test_stated_power_is_met_with_groups(seeds: int, images: int) -> None:
    rng, groups, stated = np.random.default_rng(4), np.arange(images) // 10, 0.1

    def pair() -> list[Right]:
        return drawn(rng, [0.74 - stated / 2, 0.74 + stated / 2], seeds=seeds, images=images, cluster=10)

    for _ in range(2):
        powers = [power_of(pair(), groups) for _ in range(100)]
        stated = float(np.median([power.difference for power in powers if power and power.difference]))
    found = [compare_pair(*pair(), groups).p_value <= ALPHA for _ in range(1500)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_power_counts_groups() -> None:
    first, second = drawn(np.random.default_rng(5), [0.7, 0.8], images=200, cluster=10)
    grouped, single = power_of([first, second], TENS), power_of([first, second])
    assert grouped is not None
    assert single is not None
    assert (grouped.images, grouped.groups, single.groups) == (200, 20, 200)
    assert (grouped.difference or 1) > (single.difference or 1)


def test_effective_size_is_between_groups_and_images() -> None:
    right = drawn(np.random.default_rng(6), [0.8], images=2000, cluster=10)[0][0]
    groups = np.arange(2000) // 10
    assert number_of(groups, 2000) == 200
    assert 190 < effective_size(right, groups) < 600
    assert effective_size(np.ones(2000), groups) == pytest.approx(200, rel=0.02)
    assert effective_size(right, None) == 2000
    assert effective_size(right[:10], groups[:10]) == 1


def test_design_effect_of_copies_is_their_number() -> None:
    values = np.repeat(np.random.default_rng(7).random(300), 4)
    assert float(design_effect(values, np.arange(1200) // 4)) == pytest.approx(4, rel=0.01)


def test_macro_interval_of_single_images_is_the_same() -> None:
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, 300)
    predicted = np.where(rng.random(300) < 0.8, labels, rng.integers(0, 3, 300))
    counts = np.zeros((3, 3), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    grouped, single = grouped_macro_intervals(labels, predicted, np.arange(300)), macro_intervals(counts)
    for name in ("macro_f1", "balanced_accuracy"):
        for end in ("low", "high"):
            assert getattr(getattr(grouped, name), end) == pytest.approx(getattr(getattr(single, name), end), abs=0.004)
    assert grouped.macro_f1.low < macro_scores(counts)[0] < grouped.macro_f1.high


def test_macro_intervals_cover_with_groups() -> None:
    rng, groups, classes = np.random.default_rng(9), np.arange(300) // 5, 3
    labels = groups % classes
    covered = np.zeros(2)
    for _ in range(300):
        right = drawn(rng, [0.8], images=300, cluster=5)[0][0]
        predicted = np.where(right, labels, (labels + 1 + rng.integers(0, 2, 300)) % classes)
        found = grouped_macro_intervals(labels, predicted, groups, resamples=1000)
        # With equal classes whose errors are spread evenly, both scores are estimates of the accuracy.
        covered += [interval.low <= 0.8 <= interval.high for interval in (found.macro_f1, found.balanced_accuracy)]
    assert all(binomtest(int(count), 300, 0.93, alternative="less").pvalue > 0.01 for count in covered), covered


def test_perfect_predictions_have_wide_macro_intervals() -> None:
    labels = np.repeat([0, 1], 50)
    found = grouped_macro_intervals(labels, labels, np.arange(100) // 10)
    assert found.macro_f1.high == 1
    assert found.macro_f1.low < 0.6


def test_bootstrap_draws_groups() -> None:
    right = np.array([np.repeat([1.0, 0.0], 100), np.tile([1.0, 0.0], 100)])
    accuracies = resampled_accuracies(right, np.arange(200) // 10)
    # The first model is right on whole groups, the second on half of every group.
    assert accuracies[:, 0].std() == pytest.approx(np.sqrt(0.25 / 20), rel=0.1)
    assert accuracies[:, 1].std() == pytest.approx(0, abs=1e-12)
