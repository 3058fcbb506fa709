"""What a comparison shows: its documents, their tables as text, and the data of the page."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from bench.comparison.analysis import Comparison
from bench.comparison.results.building import table_result
from bench.comparison.results.runs import flat_runs
from bench.leaderboard import page, summary, terminal
from bench.render.documents import Block, Section, Table
from bench.render.markdown import markdown
from bench.render.spreadsheet import csv_text
from bench.report import content


def markdown_of(*comparisons: Comparison) -> str:
    return markdown(page.document([table_result(comparison) for comparison in comparisons]))


def tables_in(blocks: Sequence[Block]) -> Iterator[list[list[str]]]:
    """Return the tables of a document, each as rows of cells without quotes; the first row is the header."""
    for block in blocks:
        if isinstance(block, Table):
            yield [
                [str(column.title) for column in block.columns],
                *([str(cell) for cell in row] for row in block.rows),
            ]
        elif isinstance(block, Section):
            yield from tables_in(block.blocks)


def tables_of(*comparisons: Comparison) -> list[list[list[str]]]:
    return list(tables_in(page.document([table_result(comparison) for comparison in comparisons])))


def summary_of(comparison: Comparison) -> list[str]:
    return [str(sentence) for sentence in summary.summary(table_result(comparison))]


def notes_of(comparison: Comparison) -> list[str]:
    return [str(sentence) for sentence in summary.notes(table_result(comparison))]


def csv_of(*comparisons: Comparison) -> str:
    return csv_text(flat_runs(comparisons))


def terminal_of(*comparisons: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, soft_wrap=True)
    for part in terminal.tables([table_result(comparison) for comparison in comparisons]):
        console.print(part, markup=False)
    return out.getvalue()


def content_of(comparison: Comparison) -> dict[str, Any]:
    return content.content_of(table_result(comparison, all_intervals=True), comparison)
