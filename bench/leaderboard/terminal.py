"""The leaderboard in short form on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.console import Console
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


def print_tables(comparisons: Sequence[Comparison], console: Console) -> None:
    """Print a short form of the leaderboard: five columns that fit into 80 characters, and the summary."""
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
        console.print(grid)
        if len(rows) > ROWS_SHOWN:
            console.print(f"and {len(rows) - ROWS_SHOWN} more rows in leaderboard.md")
        for sentence in summary(comparison, str):
            console.print(sentence, markup=False)


def print_measured(measured: "Measured", console: Console) -> None:
    """Print a line for each measurement from host to host."""
    for record, rows in measured.rows:
        for row in rows:
            if row.kind == "host":
                console.print(f"  {record.config.model} on {row.runtime}: {cells.latency_cell(row, {})}", markup=False)


def _cells(row: Row, comparison: Comparison) -> list[str]:
    rank = comparison.rank_of(row)
    start = [str(rank or "-"), escape(row.first.config.model), escape(", ".join(row.setting)) or "-"]
    if not row.checkpoints:
        return [*start, escape("; ".join(row.incomplete)) or page.FAILED, ""]
    time = cells.median_cell(row, cells.LATENCY_COLUMNS["ONNX ms"], comparison.table.sessions)
    return [*start, cells.score_cell(accuracy(row)), escape(time)]
