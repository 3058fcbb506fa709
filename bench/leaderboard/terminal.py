"""The leaderboard in short form on a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.comparison.analysis import Findings, accuracy
from bench.comparison.sessions import Sessions, is_outlier
from bench.comparison.speeds import runtimes_of, shown, why_not
from bench.comparison.tables import Entry
from bench.latency.measure import Measured
from bench.leaderboard import cells, page, summary
from bench.stats.intervals import percentile
from imgcls.errors import ConfigError

ROWS_SHOWN: Final = 30
"""Rows of a table that a terminal shows; the page has all."""

FIGURE_WIDTH: Final = 5
"""Narrower columns would cut a figure such as 100.0."""


def show_leaderboard(results: Path, console: Console) -> int:
    """Write the leaderboard from the records, and print it."""
    if not results.is_dir():
        message = f"--results {results}: no such folder; run-all makes one"
        raise ConfigError(message)
    print_tables(page.write(results, warn=lambda line: console.print(line, markup=False)), console)
    return 0


def print_tables(tables: Sequence[Findings], console: Console) -> None:
    """Print a short form of the leaderboard for the terminal."""
    for found in tables:
        first, entries = found.board.first, found.ordered
        title = f"{first.dataset.name}, recipe {first.config.recipe}, {found.number} test images"
        table = Table(title=escape(title))
        table.add_column("Group", justify="right", min_width=FIGURE_WIDTH)
        table.add_column("Model", no_wrap=True)
        table.add_column("Test top-1 % (95 %)", justify="right", no_wrap=True)
        runtimes = runtimes_of(found.board)
        for name in ("F1", "M params", "GMACs", *(f"{runtime.replace('-', ' ')} p50 ms" for runtime in runtimes)):
            table.add_column(name, justify="right", min_width=max(FIGURE_WIDTH, *(len(word) for word in name.split())))
        for entry in entries[:ROWS_SHOWN]:
            table.add_row(
                *_cells(entry, found), *(_median(entry, runtime, found.board.sessions) for runtime in runtimes)
            )
        always = found.board.majority
        share = cells.accuracy_cell(always.top1_accuracy, found.number)
        table.add_row("", f"always {escape(always.class_name)}", share, f"{100 * always.macro_f1:.1f}")
        console.print(table)
        if len(entries) > ROWS_SHOWN:
            console.print(f"and {len(entries) - ROWS_SHOWN} more rows in page.md")
        console.print(f"{summary.paragraph(found)} {summary.power_line(found)}", markup=False)


def print_measured(measured: Measured, console: Console) -> None:
    """Print a line for each measurement from host to host."""
    for record, rows in measured.rows:
        for row in rows:
            if row.kind == "host":
                console.print(f"  {record.config.model} on {row.runtime}: {cells.latency_cell(row, {})}", markup=False)


def _cells(entry: Entry, found: Findings) -> list[str]:
    number = found.group_of(entry)
    seeds = ", ".join(str(checkpoint.seed) for checkpoint in entry.checkpoints)
    name = f"{escape(entry.name)}\n{entry.init}, seed {seeds}" if seeds else escape(entry.name)
    if not entry.checkpoints:
        return ["", name, "; ".join(entry.incomplete) or page.FAILED, "", "", ""]
    model = entry.outcome.model
    return [
        str(number or "-"),
        name,
        cells.score_cell(accuracy(entry)).replace("; ", "\n"),
        f"{100 * found.macro_f1(entry).value:.1f}",
        f"{model.num_params / 1e6:.1f}",
        f"{model.gmacs:.2f}",
    ]


def _median(entry: Entry, runtime: str, sessions: Sessions) -> str:
    row = shown(entry, runtime)
    if row is not None:
        mark = cells.OUTLIER_MARK if is_outlier(row[1], sessions) else ""
        return cells.figure(percentile(row[1].samples_ms, 50)) + mark
    instead = why_not(entry, runtime)
    return instead if isinstance(instead, str) else cells.validity_word(instead)
