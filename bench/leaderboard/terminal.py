"""The leaderboard in short form, for a terminal."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import RenderableType

from bench.comparison.latencies.figures import measured as latency
from bench.comparison.results.values import RowResult, TableResult
from bench.leaderboard import page
from bench.leaderboard.cells import LATENCY_COLUMNS, latency_text, median_text, per_cent
from bench.leaderboard.selection import selections
from bench.leaderboard.summary import summary
from bench.render.documents import NO_VALUE, Block, Paragraph, Words, bullets, table, text
from bench.render.terminal import terminal

if TYPE_CHECKING:
    from bench.latency.measure import Measured  # imports torch, which a command that only reads must not

LONGEST_NAME: Final = 30
"""Characters up to which a model's name is never broken: in 80 columns, settings then have six or more."""

ROWS_SHOWN: Final = 30
"""Rows of a table that a terminal shows; leaderboard.md has all."""

MODEL, SETTING = 1, 2


def tables(results: Sequence[TableResult]) -> Iterator[RenderableType]:
    """Return each table with its summary: five columns that fit into 80 characters."""
    for part in results:
        longest = max((len(row.model) for row in part.rows[:ROWS_SHOWN]), default=0)
        # Where the width does not suffice, the setting gives way first.
        yield from terminal(_short(part), folding=[SETTING, *([MODEL] if longest > LONGEST_NAME else [])])


def _short(results: TableResult) -> list[Block]:
    shared, visible = _shared_weights(results.rows), results.rows[:ROWS_SHOWN]
    baseline = text(f"majority class ({results.majority.class_name})")
    majority: list[Words] = [NO_VALUE, baseline, NO_VALUE, per_cent(results.majority.accuracy), ""]
    rows = [*(_row(row, results, shared) for row in visible), majority]
    titles = ("Rank", "Model", "Setting", "Top-1 % (95 % CI)", "ONNX ms")
    lines: list[Words] = []
    if len(results.rows) > ROWS_SHOWN:
        lines.append(f"and {len(results.rows) - ROWS_SHOWN} more rows in leaderboard.md")
    if shared:
        models = {part: [model for model, own in shared.items() if own == part] for part in shared.values()}
        lines.append("; ".join(f"{part}: {', '.join(names)}" for part, names in models.items()))
    lines += [*page.machine_lines(results), *summary(results), *selections(results)]
    # Not the title of the table, in whose width it would be broken.
    return [Paragraph(page.heading(results.key)), *table(titles, rows, left=3, keep=len(titles)), *bullets(lines)]


def _shared_weights(rows: Sequence[RowResult]) -> dict[str, str]:
    """Return the part of the setting that names initial weights, by model, where all rows of a model share it."""
    parts: defaultdict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        # A failed run has no weights of its own.
        if row.scored:
            parts[row.model].add(row.weights_part)
    shared = {model: variants.pop() for model, variants in parts.items() if len(variants) == 1}
    return {model: part for model, part in shared.items() if part is not None}


def _row(row: RowResult, results: TableResult, shared: Mapping[str, str]) -> list[Words]:
    setting = ", ".join(part for part in row.setting if part != shared.get(row.model))
    start: list[Words] = [str(row.rank or NO_VALUE), row.model, setting or NO_VALUE]
    if not row.scored:
        return [*start, "; ".join(row.failure.incomplete) or page.FAILED, ""]
    time = median_text(row.latency(LATENCY_COLUMNS["ONNX ms"], results.measured_on))
    return [*start, per_cent(row.measures["top1"]), time]


def measured_lines(measured: "Measured") -> list[str]:
    """Return a line for each measurement from input on the host to logits on the host."""
    return [
        f"  {record.config.model} on {row.runtime}: {latency_text(latency(row, record.environment.machine, {}))}"
        for record, rows in measured.rows
        for row in rows
        if row.kind == "host"
    ]
