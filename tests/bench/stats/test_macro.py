"""Bootstrap of macro-F1, balanced accuracy and ECE, and the accuracy-cost front."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, bootstrap
from sklearn import metrics

from bench.stats import resampling
from bench.stats.macro import DrawCache, macro_intervals, macro_scores
from bench.stats.resampling import calibrated_ece, front, front_probability, resampled_accuracies, uniforms_for


def matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3], 60)
    predicted = np.where(rng.random(60) < 0.6, labels, rng.integers(0, 4, 60))
    f1, balanced = macro_scores(matrix(labels, predicted, 4))
    present = [0, 1, 3]
    assert f1 == pytest.approx(metrics.f1_score(labels, predicted, labels=present, average="macro", zero_division=0))
    assert balanced == pytest.approx(metrics.recall_score(labels, predicted, labels=present, average="macro"))


@pytest.mark.parametrize(("right", "wrong"), [(70, 30), (57, 3)])
def test_bootstrap_of_one_class_is_scipys(right: int, wrong: int) -> None:
    answers, step = np.repeat([1.0, 0.0], [right, wrong]), 1 / (right + wrong)
    expected = bootstrap((answers,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0))
    found = macro_intervals(np.array([[right, wrong], [0, 0]])).balanced_accuracy
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=1.1 * step)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=1.1 * step)


def test_interval_is_corrected_for_skewness() -> None:
    found = macro_intervals(np.array([[57, 3], [0, 0]])).balanced_accuracy
    low, high = binom.ppf([0.025, 0.975], 60, 57 / 60) / 60
    assert found.low < low
    assert found.high < high


def test_images_are_resampled_within_classes() -> None:
    """One class is always right and the other half the time: only the second one contributes variance."""
    found = macro_intervals(np.array([[50, 0], [25, 25]])).balanced_accuracy
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 50) / 2, rel=0.1)


@pytest.mark.parametrize(
    ("support", "recall"), [([30] * 3, 0.7), ([30] * 10, 0.97), ([30, 60, 120, 40], 0.9), ([30, 30], 0.9)]
)
def test_intervals_cover_from_30_images_a_class(support: list[int], recall: float) -> None:
    classes = len(support)
    rates = np.full((classes, classes), (1 - recall) / (classes - 1))
    np.fill_diagonal(rates, recall)
    counts = np.array(support)
    taken = counts @ rates
    f1 = (2 * recall * counts / (taken + counts)).mean()
    rng, hits, tables = np.random.default_rng(0), np.zeros(2), 1000
    for number in range(tables):
        seen = np.stack([rng.multinomial(count, rate) for count, rate in zip(counts, rates, strict=True)])
        found = macro_intervals(seen, resamples=1000, seed=number)
        hits += [
            found.macro_f1.low <= f1 <= found.macro_f1.high,
            found.balanced_accuracy.low <= recall <= found.balanced_accuracy.high,
        ]
    assert (hits / tables >= 0.93).all(), hits / tables


@pytest.mark.parametrize("counts", [[[20, 0], [0, 20]], [[20, 0], [20, 0]], [[0, 20], [20, 0]], [[1, 0], [0, 1]]])
def test_identical_resamples_give_some_width(counts: list[list[int]]) -> None:
    found = macro_intervals(np.array(counts)).balanced_accuracy
    assert found.high - found.low > 0.1


@pytest.mark.parametrize("classes", [10, 100])
def test_cost_of_ten_thousand_images_is_that_of_their_errors(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are not drawn one by one, which would take 100 million numbers; ``nox -s perf`` measures the seconds."""
    drawn: list[int] = []

    class Counted(np.random.Generator):
        def integers(self, *args: Any, **kwargs: Any) -> Any:
            return noted(super().integers(*args, **kwargs))

        def binomial(self, *args: Any, **kwargs: Any) -> Any:
            return noted(super().binomial(*args, **kwargs))

    def noted(numbers: Any) -> Any:
        drawn.append(np.size(numbers))
        return numbers

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counted(np.random.PCG64(seed)))
    rng = np.random.Generator(np.random.PCG64(0))
    labels = np.repeat(np.arange(classes), 10_000 // classes)
    counts = matrix(labels, np.where(rng.random(10_000) < 0.8, labels, rng.integers(0, classes, 10_000)), classes)
    found = macro_intervals(counts)
    errors = 10_000 - int(np.trace(counts))
    assert 0 < sum(drawn) < 1.1 * 10_000 * (errors + classes)
    assert found.balanced_accuracy.high - found.balanced_accuracy.low == pytest.approx(
        2 * 1.96 * np.sqrt(0.8 * 0.2 / 10_000), rel=0.2
    )


def test_calibrated_ece_matches_simulation() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 180)
    mean, high = calibrated_ece(confidence)
    bins = np.clip(np.ceil(confidence * 15).astype(int) - 1, 0, 14)
    seen = []
    for _ in range(1000):
        gaps = np.bincount(bins, weights=(rng.random(180) < confidence) - confidence, minlength=15)
        seen.append(np.abs(gaps).sum() / 180)
    assert mean == pytest.approx(np.mean(seen), rel=0.05)
    assert np.mean(np.array(seen) <= high) == pytest.approx(0.95, abs=0.02)
    assert calibrated_ece(np.ones(50)) == (0.0, 0.0)


def test_front_holds_undominated_models() -> None:
    accuracies, costs = np.array([0.9, 0.8, 0.8, 0.7]), np.array([10.0, 5.0, 6.0, 5.0])
    assert front(accuracies, costs).tolist() == [True, True, False, False]
    assert front(np.array([0.5, 0.5]), np.array([1.0, 1.0])).tolist() == [True, True]


def test_front_is_that_of_all_pairs() -> None:
    """With many ties, as the definition says it."""
    rng = np.random.default_rng(0)
    accuracies, costs = rng.integers(0, 5, (200, 9)) / 5, rng.integers(0, 5, (200, 9)) / 1.0
    better, cheaper = accuracies[:, None] >= accuracies[..., None], costs[:, None] <= costs[..., None]
    really = (accuracies[:, None] > accuracies[..., None]) | (costs[:, None] < costs[..., None])
    assert (front(accuracies, costs) == ~(better & cheaper & really).any(axis=-1)).all()


def test_few_and_many_patterns_of_results_are_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hundred models on 80 images, no two of which are alike: by counts of patterns, and image by image."""
    right = (np.random.default_rng(0).random((100, 80)) < 0.7).astype(float)
    single = resampled_accuracies(right, resamples=4000)
    monkeypatch.setattr(resampling, "ALL_DIFFERENT", 2.0)
    counted = resampled_accuracies(right, resamples=4000)
    assert not np.array_equal(single, counted)
    np.testing.assert_allclose(single.mean(axis=0), right.mean(axis=1), atol=0.005)
    np.testing.assert_allclose(single.std(axis=0), counted.std(axis=0), rtol=0.08)
    assert np.cov(single[:, :2].T)[0, 1] == pytest.approx(np.cov(counted[:, :2].T)[0, 1], abs=2e-4)


def test_ece_of_large_bins_is_that_of_single_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a bin of sure predictions, whose numbers of errors are small."""
    confidence = np.concatenate([np.random.default_rng(0).beta(6, 2, 30_000), np.full(15_000, 0.9995)])
    sliced = calibrated_ece(confidence)
    monkeypatch.setattr(resampling, "MANY_IN_BIN", 10**6)
    single = calibrated_ece(confidence)
    assert sliced != single
    assert sliced == pytest.approx(single, rel=0.03)


def test_front_probability_uses_images_and_rounds() -> None:
    rng = np.random.default_rng(0)
    good, equal = rng.random(300) < 0.95, rng.random(300) < 0.6
    accuracies = resampled_accuracies(np.stack([good, equal, equal]).astype(float))
    assert accuracies.std(axis=0) == pytest.approx(np.sqrt([0.95 * 0.05 / 300, *[0.6 * 0.4 / 300] * 2]), rel=0.2)
    assert (accuracies[:, 1] == accuracies[:, 2]).all()
    sure = front_probability(accuracies, [np.array([10.0]), np.array([1.0]), np.array([2.0])])
    assert sure.tolist() == [1.0, 1.0, 0.0]
    unsure = front_probability(accuracies, [np.array([10.0]), np.array([1.0, 3.0]), np.array([2.0])])
    assert 0.1 < unsure[2] < 0.9


@pytest.mark.parametrize("classes", [2, 5, 10, 140])
def test_shared_draws_keep_the_intervals(classes: int) -> None:
    rng, draws = np.random.default_rng(classes), DrawCache()
    labels = np.repeat(np.arange(classes), 12)
    for _ in range(4):
        predicted = np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, classes, len(labels)))
        counts = matrix(labels, predicted, classes)
        assert macro_intervals(counts, resamples=500, draws=draws) == macro_intervals(counts, resamples=500)


@pytest.mark.parametrize("classes", [4, 11, 20, 140])
def test_equal_resamples_tie_with_the_score(classes: int) -> None:
    """The first class has one of two images right; two resamples of four equal the table, so BCa corrects nothing."""
    rng = np.random.default_rng(classes)
    counts = np.diag(rng.integers(5, 90, classes))
    for label in range(3, classes, 2):  # always predicted as the class before
        counts[label, label - 1], counts[label, label] = counts[label, label], 0
    lowest, table, highest = counts.copy(), counts.copy(), counts.copy()
    lowest[0, :2], table[0, :2], highest[0, :2] = [0, 2], [1, 1], [2, 0]
    found = macro_intervals(table).macro_f1
    assert (found.low, found.high) == pytest.approx((macro_scores(lowest)[0], macro_scores(highest)[0]), abs=1e-12)


def test_shared_uniforms_keep_the_ece() -> None:
    rng = np.random.default_rng(0)
    every = [rng.uniform(0.3, 1, number) for number in (40, 180, 180, 1200)]
    uniforms = uniforms_for([len(one) for one in every])
    for one in every:
        assert calibrated_ece(one, uniforms=uniforms(len(one))) == calibrated_ece(one)
