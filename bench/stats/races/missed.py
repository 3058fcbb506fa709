"""What a race may have missed: whether a candidate that left without a test would have been the best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.stats.groups import Groups, meaningful, number_of
from bench.stats.pairs import Right

DRAWS: Final = 2000
"""Resamples of val for the probability that a candidate that left would have been the best."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundScores:
    """A finished round: the candidates that took part, and whether each is correct on each val image ``[K, N]``."""

    candidates: tuple[int, ...]
    right: Right


def best_left_by_budget(
    rounds: Sequence[RoundScores], left_after: Mapping[int, int], groups: Groups | None, *, draws: int = DRAWS
) -> float:
    """Return the probability that one of the candidates that left by budget would have been the best in the last round.

    ``left_after`` is the index of the last round of each of them. Val is resampled by group (bootstrap), in all rounds
    alike. The score that a candidate would have had after the next round is its own, plus the gain of a candidate that
    took part in both, drawn at random; and so on to the last round. That assumes that those who left would have gained
    as much as those who stayed.
    """
    if not left_after or not rounds:
        return 0.0
    rng = np.random.default_rng(0)
    scores = [_resampled(scored.right, groups, draws) for scored in rounds]
    last = scores[-1].max(axis=1)
    best = np.zeros(draws, dtype=bool)
    for candidate, final in left_after.items():
        reached = scores[final][:, rounds[final].candidates.index(candidate)]
        for before in range(final, len(rounds) - 1):
            reached = reached + _drawn_gain(rounds, scores, before, rng)
        best |= reached > last
    return float(best.mean())


def _drawn_gain(
    rounds: Sequence[RoundScores], scores: Sequence[NDArray[np.float64]], before: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the gain from a round to the next of a candidate that took part in both, another one in each draw."""
    stayed = rounds[before + 1].candidates
    earlier = [rounds[before].candidates.index(candidate) for candidate in stayed]
    gains = scores[before + 1] - scores[before][:, earlier]
    draws = len(gains)
    return gains[np.arange(draws), rng.integers(len(stayed), size=draws)]


def _resampled(right: Right, groups: Groups | None, draws: int) -> NDArray[np.float64]:
    """Return the accuracy of candidates in bootstrap samples of the groups of val ``[draws, K]``."""
    groups = meaningful(groups)
    members = np.arange(right.shape[1]) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = number_of(groups, right.shape[1])
    correct = np.stack([np.bincount(members, weights=row, minlength=count) for row in right], axis=1)
    sizes = np.bincount(members, minlength=count)
    # The same draws for every round, whose images are the same.
    weights = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), size=draws)
    accuracy: NDArray[np.float64] = (weights @ correct) / (weights @ sizes)[:, None]
    return accuracy
