"""Weights of ensembles: laws of each rule, and a search on a grid as oracle."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ensembles.voting import RULES, fitted, greedy, soft


def members(seed: int, number: int = 3, images: int = 40, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that lean to the label, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = rng.normal(size=(number, images, classes)) + 1.2 * np.eye(classes)[labels]
    shares = np.exp(2 * logits)
    return shares / shares.sum(axis=2, keepdims=True), labels


def loss(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    mean = np.tensordot(weights, probabilities, axes=1)
    return float(-np.log(mean[np.arange(len(labels)), labels]).mean())


def accuracy(weights: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float((np.tensordot(weights, probabilities, axes=1).argmax(axis=1) == labels).mean())


@given(st.integers(0, 2**31), st.sampled_from(list(RULES)), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_weights_are_shares(seed: int, rule: str, number: int) -> None:
    weights = RULES[rule](*members(seed, number))
    assert weights.shape == (number,)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_fitted_weights_have_the_least_log_loss(seed: int) -> None:
    """Not above that of any weights on a grid, of which the corners are the members alone."""
    probabilities, labels = members(seed)
    grid = [np.array(point) / 10 for point in itertools.product(range(11), repeat=3) if sum(point) == 10]
    least = min(loss(point, probabilities, labels) for point in grid)
    assert loss(fitted(probabilities, labels), probabilities, labels) <= least + 1e-3


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_greedy_is_not_below_any_member_on_val(seed: int) -> None:
    probabilities, labels = members(seed)
    best = max(accuracy(corner, probabilities, labels) for corner in np.eye(3))
    assert accuracy(greedy(probabilities, labels), probabilities, labels) >= best


def test_greedy_takes_members_that_correct_each_other() -> None:
    """The first is right on one half of the images, the second on the other; the last is always wrong."""
    labels = np.zeros(4, dtype=int)
    right, unsure, wrong = [0.9, 0.1], [0.45, 0.55], [0.05, 0.95]
    probabilities = np.array([[right, right, unsure, unsure], [unsure, unsure, right, right], [wrong] * 4])
    weights = greedy(probabilities, labels)
    assert weights[:2].min() > 0
    assert weights[2] == 0
    assert accuracy(weights, probabilities, labels) == 1


def test_equal_members_share_alike() -> None:
    probabilities, labels = members(0, number=1)
    same = np.repeat(probabilities, 4, axis=0)
    assert soft(same, labels).tolist() == [0.25] * 4
    for rule in RULES.values():
        assert loss(rule(same, labels), same, labels) == pytest.approx(loss(np.ones(1), probabilities, labels))
