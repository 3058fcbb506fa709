"""The leaderboard in short form on a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import cells, leaderboard
from bench.acceptance import refused
from bench.majority import majority
from bench.records import RunRecord
from bench.stats import percentile
from bench.tuned_rows import model_name
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
    print_tables(leaderboard.write(results, warn=lambda line: console.print(line, markup=False)), console)
    return 0


def print_tables(tables: Sequence[list[RunRecord]], console: Console) -> None:
    """Print a short form of the leaderboard for the terminal."""
    for records in tables:
        first = records[0]
        number = sum(first.dataset.counts["test"])
        table = Table(title=escape(f"{first.dataset.name}, recipe {first.config.recipe}, {number} test images"))
        table.add_column("Model", no_wrap=True)
        table.add_column("Test top-1 % (95 %)", justify="right", no_wrap=True)
        runtimes = list(dict.fromkeys(row.runtime for record in records for row in record.measurements))
        for name in ("F1", "M params", "GMACs", *(f"{runtime.replace('-', ' ')} p50 ms" for runtime in runtimes)):
            table.add_column(name, justify="right", min_width=max(FIGURE_WIDTH, *(len(word) for word in name.split())))
        for record in records[:ROWS_SHOWN]:
            table.add_row(*_cells(record, number), *(_median(record, runtime) for runtime in runtimes))
        always = majority(first.dataset)
        accuracy = cells.accuracy_cell(always.top1_accuracy, number)
        table.add_row(f"always {escape(always.class_name)}", accuracy, f"{100 * always.macro_f1:.1f}")
        console.print(table)
        if len(records) > ROWS_SHOWN:
            console.print(f"and {len(records) - ROWS_SHOWN} more rows in leaderboard.md")


def _cells(record: RunRecord, number: int) -> list[str]:
    name = f"{escape(model_name(record))}\n{record.init}, seed {record.config.seed}"
    if record.outcome is None:
        return [name, "failed", "", "", ""]
    test, model = record.outcome.metrics.test_metrics, record.outcome.model
    return [
        name,
        cells.accuracy_cell(test["top1_accuracy"], number),
        f"{100 * test['macro_f1']:.1f}",
        f"{model.num_params / 1e6:.1f}",
        f"{model.gmacs:.2f}",
    ]


def _median(record: RunRecord, runtime: str) -> str:
    for row in record.measurements:
        if (row.runtime, row.kind, row.batch_size) == (runtime, "host", 1):
            if refused(record, runtime):
                return "refused"
            shown = row.verdict in cells.MARKS
            return cells.figure(percentile(row.samples_ms, 50)) + cells.MARKS[row.verdict] if shown else row.verdict
    return ""
