"""The leaderboard in short form on a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as Grid

from bench.comparison.analysis import Comparison, accuracy
from bench.comparison.tables import Row
from bench.leaderboard import cells, page
from bench.leaderboard.summary import summary

if TYPE_CHECKING:
    from bench.latency.measure import Measured  # imports torch, which a command that only reads must not

ROWS_SHOWN: Final = 30
"""Rows of a table that a terminal shows; the page has all."""


def tables(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Return each table in short form, five columns that fit into 80 characters, and its summary."""
    for comparison in comparisons:
        rows = comparison.ordered
        grid = Grid(title=escape(page.heading(comparison)), title_justify="left")
        for name in ("Rank", "Model", "Setting", "Top-1 % (95 % CI)", "ONNX ms"):
            grid.add_column(name, justify="left" if name in {"Model", "Setting"} else "right", overflow="fold")
        for row in rows[:ROWS_SHOWN]:
            grid.add_row(*_cells(row, comparison))
        majority = comparison.table.majority
        score = cells.accuracy_cell(majority.top1_accuracy, comparison.number)
        grid.add_row("-", "majority class", escape(majority.class_name), score, "")
        yield grid
        if len(rows) > ROWS_SHOWN:
            yield f"and {len(rows) - ROWS_SHOWN} more rows in leaderboard.md"
        yield from summary(comparison, str)


def measured_lines(measured: "Measured") -> list[str]:
    """Return a line for each measurement from host to host."""
    return [
        f"  {record.config.model} on {row.runtime}: {cells.latency_cell(row, {})}"
        for record, rows in measured.rows
        for row in rows
        if row.kind == "host"
    ]


def _cells(row: Row, comparison: Comparison) -> list[str]:
    rank = comparison.rank_of(row)
    start = [str(rank or "-"), escape(row.first.config.model), escape(", ".join(row.setting)) or "-"]
    if not row.checkpoints:
        return [*start, escape("; ".join(row.incomplete)) or page.FAILED, ""]
    time = cells.median_cell(row, cells.LATENCY_COLUMNS["ONNX ms"], comparison.table.sessions)
    return [*start, cells.score_cell(accuracy(row)), escape(time)]
