"""Departures from a race: the level of its tests, which of the candidates are worse, and what may have been missed."""

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench.stats.races.departures import least_groups, levels_of, significantly_worse
from bench.stats.races.missed import RoundScores, best_left_by_budget

ROUNDS = [False, True, True, True]


def test_levels_sum_to_the_level_of_a_table_and_frozen_features_have_none() -> None:
    levels = levels_of(ROUNDS)

    assert levels[0] == 0
    assert len(set(levels[1:])) == 1
    assert sum(levels) == pytest.approx(0.05)


def test_those_are_worse_of_which_statsmodels_finds_it() -> None:
    rng = np.random.default_rng(3)
    right = rng.random((6, 300)) < np.array([0.95, 0.93, 0.9, 0.86, 0.8, 0.7])[:, None]
    pairs = [(first, second) for first in range(6) for second in range(first + 1, 6)]
    p_values = []
    for first, second in pairs:
        table = [
            [np.sum(right[first] & right[second]), np.sum(right[first] & ~right[second])],
            [np.sum(~right[first] & right[second]), np.sum(~right[first] & ~right[second])],
        ]
        p_values.append(mcnemar(table, exact=True).pvalue)
    rejected = multipletests(p_values, alpha=0.05 / 3, method="holm")[0]
    accuracy = right.mean(axis=1)
    expected = {
        min(pair, key=lambda model: accuracy[model]) for pair, apart in zip(pairs, rejected, strict=True) if apart
    }

    worse = significantly_worse(right, None, 0.05 / 3)

    assert set(np.flatnonzero(worse)) == expected
    assert 0 < len(expected) < 6


def test_without_a_level_and_alone_nobody_is_worse() -> None:
    right = np.array([[True] * 50, [False] * 50])

    assert significantly_worse(right, None, 0.05).tolist() == [False, True]
    assert not significantly_worse(right, None, 0.0).any()
    assert not significantly_worse(right[:1], None, 0.05).any()


def test_copies_of_an_image_are_one_observation() -> None:
    right = np.repeat(np.array([[True] * 8, [False] * 8]), 10, axis=1)
    groups = np.repeat(np.arange(8), 10)

    assert significantly_worse(right, None, 0.001).any()
    assert not significantly_worse(right, groups, 0.001).any()


@pytest.mark.parametrize("candidates", [2, 3, 10, 50])
def test_fewer_images_than_the_least_cannot_show_a_difference(candidates: int) -> None:
    level = 0.05 / 3
    least = least_groups(level, candidates)

    for images, expected in ((least - 1, False), (least, True)):
        # One candidate is wrong on all images and the others are right: the strongest evidence that there is.
        right = np.ones((candidates, images), dtype=bool)
        right[0] = False
        assert significantly_worse(right, None, level)[0] == expected


def test_who_left_just_behind_may_have_been_the_best_and_who_left_far_behind_may_not() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((4, 400)) < np.array([0.9, 0.89, 0.87, 0.5])[:, None]
    last = rng.random((2, 400)) < np.array([0.94, 0.93])[:, None]
    rounds = [
        RoundScores(candidates=(0, 1, 2, 3), right=first),
        RoundScores(candidates=(0, 1), right=last),
    ]

    near = best_left_by_budget(rounds, {2: 0}, None)
    far = best_left_by_budget(rounds, {3: 0}, None)

    assert 0.02 < near < 0.98
    assert far == 0.0
    assert best_left_by_budget(rounds, {2: 0, 3: 0}, None) >= near
    assert best_left_by_budget(rounds, {}, None) == 0.0


def test_the_probability_of_having_missed_the_best_is_that_of_equal_candidates() -> None:
    # Four equal candidates, two of which leave at random after the only round: without any further gain, the best of
    # a resample is one of them about as often as not.
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(60):
        right = rng.random((4, 2000)) < 0.8
        scored = RoundScores(candidates=(0, 1, 2, 3), right=right)
        last = RoundScores(candidates=(0, 1), right=right[:2])
        shares.append(best_left_by_budget([scored, last], {2: 0, 3: 0}, None, draws=300))

    # The gain from a round to itself is 0.
    assert np.mean(shares) == pytest.approx(0.5, abs=3 * np.std(shares) / math.sqrt(len(shares)))


def test_a_resample_draws_groups_together() -> None:
    right = np.array([[True] * 60, [True] * 30 + [False] * 30])
    halves = np.repeat([0, 1], 30)
    rounds = [RoundScores(candidates=(0, 1), right=right), RoundScores(candidates=(1,), right=right[1:])]

    # Both groups are drawn with the same images: one half alone, the other alone, or both. The first candidate left,
    # and is better unless the half is drawn in which both are right.
    assert best_left_by_budget(rounds, {0: 0}, halves) == pytest.approx(0.75, abs=0.03)
    assert best_left_by_budget(rounds, {0: 0}, None) == pytest.approx(1.0)
