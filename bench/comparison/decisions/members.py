"""Ensembles against the best of their members."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.comparison.analysis import Comparison
from bench.comparison.decisions.compare import Difference, difference
from bench.comparison.tables import members_of


@dataclass(frozen=True, kw_only=True, slots=True)
class AgainstMember:
    """An ensemble, its best member on test, and the accuracy of the ensemble minus that of the member."""

    name: str
    member: str
    difference: Difference


def against_members(run_ids: set[str], comparisons: Sequence[Comparison]) -> list[AgainstMember]:
    """Return the comparison of each ensemble among some runs with its best member."""
    ensembles = []
    for comparison in comparisons:
        for row in comparison.compared:
            if row.first.ensemble is None or not run_ids & {record.run_id for record in row.records}:
                continue
            members = members_of(row, comparison.compared)
            best = max(members, key=lambda member: member.accuracy, default=None)
            if best is not None:
                gap = difference(row.right, best.right, comparison.groups)
                ensembles.append(AgainstMember(name=row.name, member=best.name, difference=gap))
    return ensembles
