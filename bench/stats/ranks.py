"""Simultaneous rank intervals of the rows of a table, from tests of all pairs. Pure functions."""

from dataclasses import dataclass

from bench.stats.pairs import PairwiseTests


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The best and the worst rank that are compatible with the tests; rank 1 is the highest accuracy."""

    best: int
    worst: int

    def __str__(self) -> str:
        """Return the interval as a table shows it, such as ``1`` or ``1-3``."""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_intervals(comparison: PairwiseTests) -> list[RankInterval]:
    """Return the rank interval of each row, in the order of the comparison.

    The best rank is 1 plus the number of rows that are significantly better, the worst is the number of rows minus
    those that are significantly worse. Holm's correction bounds the probability of any false rejection by 5 %, so the
    intervals of all rows contain the true ranks simultaneously, with 95 % confidence. Rows that are truly equal share
    the ranks between them, and their intervals contain all of these.
    """
    # Intervals instead of groups of equal rows: "not significantly different" is not transitive, so that groups would
    # separate rows that the tests do not separate.
    # [i, j]: row j is significantly better than row i.
    better = comparison.apart & (comparison.differences > 0)
    best = 1 + better.sum(axis=1)
    worst = len(better) - better.sum(axis=0)
    return [RankInterval(first, last) for first, last in zip(best.tolist(), worst.tolist(), strict=True)]
