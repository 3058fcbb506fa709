"""Whether more photos would help: the accuracy on shares of train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.comparison.analysis import Comparison
from bench.comparison.decisions.compare import Difference, difference
from bench.comparison.measures import Estimate, of_score
from bench.recipes import SHARES
from bench.stats.power import Power, power_of


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """The accuracy on each share of train that has a complete row, and what the last doubling of train has changed.

    ``doubling`` is the accuracy on all of train minus that on half of it; None if one of these shares has no score.
    ``power`` is that of its test.
    """

    scores: tuple[tuple[float, Estimate], ...]
    doubling: Difference | None = None
    power: Power | None = None


def learning_curve(runs: Mapping[float, set[str]], comparisons: Sequence[Comparison]) -> LearningCurve:
    """Return the learning curve of the runs of each share, which are given by their ids."""
    curve = [
        (share, row, comparison)
        for share, ids in runs.items()
        for comparison in comparisons
        for row in comparison.compared
        if ids & {record.run_id for record in row.records}
    ]
    scores = tuple((share, of_score(comparison.accuracy(row))) for share, row, comparison in curve)
    if [share for share, _, _ in curve][-2:] != list(SHARES[-2:]):
        return LearningCurve(scores=scores)
    (_, half, comparison), (_, whole, _) = curve[-2:]
    return LearningCurve(
        scores=scores,
        doubling=difference(whole.right, half.right, comparison.groups),
        power=power_of([half.right, whole.right], comparison.groups, tests=1),
    )
