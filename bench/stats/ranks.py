"""The ranks that a table's rows may have: an interval for each row, from all pairs at once; pure functions."""

from dataclasses import dataclass

from bench.stats.pairs import PairwiseTests


@dataclass(frozen=True, slots=True)
class RankInterval:
    """The best and the worst rank that a row may have; rank 1 is the highest accuracy."""

    best: int
    worst: int

    def __str__(self) -> str:
        """Return the interval as a table shows it: ``1``, or ``1-3``."""
        return str(self.best) if self.best == self.worst else f"{self.best}-{self.worst}"


def rank_intervals(comparison: PairwiseTests) -> list[RankInterval]:
    """Return the rank interval of each row, in the order of the comparison.

    Each row significantly better than this one moves its best rank down by one, each row significantly worse moves its
    worst rank up by one. Holm's correction makes a false claim about any pair unlikely (5 %), so the intervals of all
    rows hold the true ranks together, with 95 % confidence. Rows that are truly equal share all ranks between them,
    and their intervals hold each of those.
    """
    # Row i, column j: row j is significantly better than row i.
    better = comparison.apart & (comparison.differences > 0)
    best = 1 + better.sum(axis=1)
    worst = len(better) - better.sum(axis=0)
    return [RankInterval(first, last) for first, last in zip(best.tolist(), worst.tolist(), strict=True)]
