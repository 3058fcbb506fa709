"""The races that chose rows of a table, in sentences: what was tried, why candidates left, and what is not known."""

from typing import TYPE_CHECKING, Final

from bench.comparison.results.values import RowResult, TableResult
from bench.leaderboard.cells import per_cent
from bench.render.documents import Name, Text, joined, listed, text, three_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.records.schema import Finalist, Selection

LEAST_SHOWN: Final = 0.01
"""Probabilities below this are not distinguished by 2,000 bootstrap samples."""


def selections(table: TableResult, races: "Sequence[Selection] | None" = None) -> list[Text]:
    """Return the sentences of races whose finalists are rows of a table; None: of all."""
    return [
        sentence
        for race in (table.selections if races is None else races)
        for sentence in (
            counts_text(race),
            rounds_text(race),
            missed_text(race),
            _winner(race, table),
            _within_limit(race, table),
        )
        if sentence
    ]


def counts_text(race: "Selection") -> Text:
    """Return how many candidates there were, and how many left for which reason, zero included."""
    worse, budget = sum(part.worse for part in race.rounds), sum(part.by_budget for part in race.rounds)
    failed = race.failed + sum(part.failed for part in race.rounds)
    limit = "" if race.limit_ms is None else f" (p90 above {race.limit_ms:g} ms on {race.runtime})"
    reasons = [
        f"{race.by_latency} left by latency{limit}",
        f"{worse} as significantly worse",
        f"{budget} by budget",
        f"{failed} failed",
    ]
    start = text("Selection ", Name(race.name), f": of {race.candidates} candidates, {', '.join(reasons)}")
    return text(start, f"; {len(race.finalists)} finalist{'' if len(race.finalists) == 1 else 's'}.")


def rounds_text(race: "Selection") -> Text:
    """Return what each round took, and what its tests could show."""
    parts = [f"latency {race.screening_s / 60:.1f} min"]
    parts += [
        f"{part.name} {part.seconds / 60:.1f} min ({part.candidates} candidate{'' if part.candidates == 1 else 's'})"
        for part in race.rounds
    ]
    images = f"{race.val_images:,} val images"
    independent = "" if race.val_groups == race.val_images else f" ({race.val_groups:,} independent)"
    rounds = text("Rounds, compared on ", images, independent, ": ", joined(parts), ".")
    few = [part for part in race.rounds if part.least_groups is not None and race.val_groups < part.least_groups]
    if not few:
        return rounds
    needed = max(part.least_groups or 0 for part in few)
    names = joined([part.name for part in few])
    return text(
        rounds, " No candidate could be significantly worse after ", names, f", as val is too small: {needed} needed."
    )


def missed_text(race: "Selection") -> Text:
    """Return the probability that the race has missed a better candidate."""
    if not sum(part.by_budget for part in race.rounds):
        return text("No candidate left by budget.")
    shown = f"below {100 * LEAST_SHOWN:.0f} %" if race.missed < LEAST_SHOWN else f"about {100 * race.missed:.0f} %"
    return text(
        f"Probability that a candidate that left by budget would have been the best on val in the last round: {shown} "
        "(bootstrap of val, if it had gained as much as those that stayed)."
    )


def _winner(race: "Selection", table: TableResult) -> Text:
    """Return the finalist that is best on val, its accuracy on test, and what it is significantly better than there."""
    rows = {finalist: row for finalist in race.finalists if (row := _row(finalist, table)) is not None}
    best = race.finalists[0]
    if best not in rows or not rows[best].scored:
        return text("The finalist that is best on val, ", Name(name_of(best)), ", has no result on test.")
    row, compared = rows[best], [part.id for part in table.compared]
    others = [part for part in rows.values() if part.id != row.id and part.id in compared]
    start = text("Best on val: ", Name(row.name), ", on test ", per_cent(row.measures["top1"]), " %")
    if row.id not in compared or not others:
        return text(start, ".")
    behind = compared[compared.index(row.id) + 1 :]
    better = [other for other in others if other.id in behind and table.pair(row, other).significant]
    if not better:
        return text(start, "; not significantly better than any other finalist.")
    return text(start, "; significantly better than ", listed([Name(other.name) for other in better]), ".")


def _within_limit(race: "Selection", table: TableResult) -> Text:
    """Return the latency of the finalists in this table, and which of them are above the limit after all."""
    if race.limit_ms is None:
        return text()
    parts = []
    for finalist in race.finalists:
        row = _row(finalist, table)
        p90 = None if row is None else row.latency(race.runtime, table.measured_on).p90
        figure = "not measured" if p90 is None else f"{three_digits(p90.value)} ms"
        above = " (above the limit)" if p90 is not None and p90.value > race.limit_ms else ""
        parts.append(text(Name(name_of(finalist)), f" {figure}{above}"))
    return text(f"p90 of the finalists on {race.runtime}: ", listed(parts), ".")


def name_of(finalist: "Finalist") -> str:
    """Return a model with its image size."""
    return f"{finalist.model}, {finalist.image_size} px"


def _row(finalist: "Finalist", table: TableResult) -> RowResult | None:
    size = f"image_size={finalist.image_size}"
    rows = [row for row in table.rows if row.model == finalist.model and size in row.setting and row.kind == "default"]
    return rows[0] if rows else None
