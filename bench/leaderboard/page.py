"""leaderboard.md, its pictures, and leaderboard.csv, made from the records alone."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.comparison.analysis import Comparison
from bench.comparison.indexing.reuse import Tables, tables_of
from bench.comparison.measures import MEASURES, Measure
from bench.comparison.results.building import table_result
from bench.comparison.results.runs import FlatRun, flat_runs
from bench.comparison.results.values import RowResult, TableResult
from bench.comparison.settings import colours_of
from bench.comparison.tables import TableKey, order_of
from bench.config import REPOSITORY
from bench.leaderboard.cells import LATENCY_COLUMNS, measured, median_text, per_cent
from bench.leaderboard.details import (
    checkpoint_table,
    class_table,
    confusion_table,
    cost_table,
    diversity_table,
    imbalance_table,
    machine_table,
    pair_table,
    pareto_table,
    row_table,
)
from bench.leaderboard.latency_table import latency_table
from bench.leaderboard.provenance import facts, tuning_table
from bench.leaderboard.selection import selections
from bench.leaderboard.summary import notes, summary
from bench.recipes import budget_text
from bench.render.documents import (
    NO_VALUE,
    Block,
    Link,
    Name,
    Paragraph,
    Picture,
    Section,
    Text,
    Words,
    bullets,
    joined,
    listed,
    table,
    text,
)
from bench.render.markdown import markdown
from bench.render.spreadsheet import csv_text
from bench.render.svg import Bar, chart
from imgcls.files import write_text

if TYPE_CHECKING:
    from bench.records.paths import Paths

FAILED: Final = "failed"

PICTURE: Final = "leaderboard-{}.svg"
"""File name of a table's picture, by the id of the table."""

LEGEND: Final = "docs/leaderboard.md"
"""The page of this repository that explains every column and mark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableText:
    """A table as values, and the texts that are made of it: section of the document, picture, and lines of the CSV."""

    result: TableResult
    section: str
    picture: str
    runs: tuple[FlatRun, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard:
    """The tables of a results folder, the text of each file that shows them, and what the next command can reuse."""

    results: tuple[TableResult, ...]
    files: dict[Path, str]
    made: Tables[TableText]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Switch the garbage collector off: everything read here is kept, and scanning it takes a tenth of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def write(paths: "Paths") -> list[TableResult]:
    """Write the leaderboard of a results folder, and return the tables that it shows."""
    return list(publish(paths).results)


def publish(paths: "Paths") -> Leaderboard:
    """Write ``leaderboard.md``, its pictures, ``leaderboard.csv`` and the index from all records of a results folder.

    Returns what they show. Only the tables whose files have changed since the last time are made again.
    """
    board = contents(paths)
    for old in paths.results.glob(PICTURE.format("*")):
        if old not in board.files:
            old.unlink()
    for path, content in board.files.items():
        # A hundred pictures that did not change would each wait for the disk.
        if not path.is_file() or path.read_bytes() != content.encode():
            write_text(content, path)
    board.made.keep(paths)
    return board


@_uncollected()
def contents(paths: "Paths", *, use_index: bool = True) -> Leaderboard:
    """Return the leaderboard of all records of a results folder; without ``use_index`` everything is made anew."""
    made = tables_of(paths, TableText, table_text, use_index=use_index)
    results = tuple(table.result for table in made.values)
    # A refused table stands where its section would be.
    sections = {table.result.key: table.section for table in made.values}
    sections |= {key: markdown([Section(heading(key), tuple(bullets([reason])))]) for key, reason in made.refused}
    start = markdown(_start(results, paths.results))
    files = {paths.results / PICTURE.format(table.result.id): table.picture for table in made.values}
    files[paths.leaderboard] = "\n".join([start, *(sections[key] for key in sorted(sections, key=order_of))])
    files[paths.spreadsheet] = csv_text([run for table in made.values for run in table.runs])
    return Leaderboard(results=results, files=files, made=made)


def table_text(comparison: Comparison) -> TableText:
    """Return a table as values and texts."""
    result = table_result(comparison)
    return TableText(
        result=result,
        section=markdown([_section(result)]),
        picture=picture(result),
        runs=tuple(flat_runs([comparison])),
    )


def document(tables: Sequence[TableResult], *, results: Path | None = None) -> list[Block]:
    """Return the whole document; its link to the legend is relative to the folder ``results``."""
    return [*_start(tables, results), *map(_section, tables)]


def _start(tables: Sequence[TableResult], results: Path | None) -> list[Block]:
    count = sum(len(table.run_ids) for table in tables)
    made = ("Made by ", Name("python -m bench leaderboard"), f" from {count:,} record{'' if count == 1 else 's'}")
    start = text(*made, ". Columns and marks: ", _legend(results), ".")
    return [Section(text("Leaderboard"), (), level=1), Paragraph(start)]


def _legend(results: Path | None) -> Name | Link:
    """Return a link to the legend; its path alone if the results are kept outside this repository."""
    if results is None or not results.resolve().is_relative_to(REPOSITORY):
        return Name(LEGEND)
    return Link(LEGEND, Path(os.path.relpath(REPOSITORY / LEGEND, results.resolve())).as_posix())


def heading(key: TableKey) -> Text:
    """Return the heading of a table: data, budget, machine, and the id that commands take."""
    return text(Name(key.dataset), f": {budget_text(key.budget)}; {key.machine}; table ", Name(key.id))


def picture(results: TableResult) -> str:
    """Return the accuracies of a table as SVG."""
    colours = colours_of([row.model for row in results.rows])
    bars = [
        Bar(
            rank=str(row.rank or NO_VALUE),
            name=row.name,
            score=per_cent(row.measures["top1"]),
            colour=colours[row.model],
            mark=row.kind,
        )
        for row in results.scored
    ]
    return chart(str(heading(results.key)), bars)


def _section(results: TableResult) -> Section:
    shown = Picture("Accuracies with 95 % intervals", PICTURE.format(results.id))
    parts = detail_tables(results).items()
    folded = [Section(text(title), tuple(blocks), folded=True) for title, blocks in parts if blocks]
    return Section(
        heading(results.key),
        (*bullets([*summary(results), *selections(results)]), *main_table(results), shown, *folded),
    )


def main_table(results: TableResult) -> list[Block]:
    """Return the main table, in which a failed run is a row with its reason, and remarks.

    These are the latency of other machines than the training machine, if they have measured any, and the reason for
    GMACs that are lower bounds.
    """
    titles = ("Rank", "Model", "Setting", *(measure.main for measure in _measures()), *LATENCY_COLUMNS)
    rows = [*(_row(row, results) for row in results.rows), _majority_row(results)]
    # All columns are kept, even empty ones: readers and scripts find nine in every table.
    return [*table(titles, rows, left=3, keep=len(titles)), *bullets([*machine_lines(results), _lower_bounds(results)])]


def _measures() -> list[Measure]:
    """Return the measures of the main table."""
    return [measure for measure in MEASURES.values() if measure.main]


def machine_lines(results: TableResult) -> list[Text]:
    """Return a line for each other measuring machine, with the latency of some rows on it."""
    measured_on, own = results.measured_on, results.key.machine
    lines = []
    if measured_on != own:
        lines.append(text(f"The latency columns are of {measured_on}, as {own} has measured nothing."))
    for machine in results.machines:
        # Without any figure, the cells name the reason in the first runtime.
        runtime = machine.reference or next(iter(machine.runtimes), None)
        if machine.name != measured_on and runtime is not None:
            cells = [
                text(Name(row.name), " ", median_text(row.latency(runtime, machine.name))) for row in results.scored
            ]
            lines.append(text(f"On {machine.name}, p50 in ms on {runtime}: ", listed(cells), "."))
    return lines


def _lower_bounds(results: TableResult) -> Text:
    """Return a sentence on the rows whose GMACs are lower bounds, if there are any."""
    rows = [row for row in results.scored if row.uncounted]
    if not rows:
        return text()
    operators = [Name(name) for name in sorted({name for row in rows for name in row.uncounted})]
    # Of a network that could be built, the present method has counted what it can.
    old = any(row.counted_before for row in rows)
    why = " (counted by an earlier version; the networks cannot be built again from the records)" if old else ""
    which = text("GMACs and TMACs of ", listed([Name(row.name) for row in rows]), " are lower bounds")
    return text(which, ", without the matrix products of ", listed(operators), f"{why}.")


def detail_tables(results: TableResult, *, sweeps: str = "sweeps") -> dict[str, list[Block]]:
    """Return the sections below the main table by title; some may be empty.

    ``sweeps`` is the path of the folder of studies, relative to the document.
    """
    return {
        "Notes": bullets(notes(results)),
        "Conditions": facts(results),
        "Rows": row_table(results),
        "Machines": machine_table(results),
        "Pairs": pair_table(results),
        "Class imbalance": imbalance_table(results),
        "Diversity": diversity_table(results),
        "Checkpoints": checkpoint_table(results),
        "Classes": class_table(results),
        "Most confused classes": confusion_table(results),
        "Pareto fronts": pareto_table(results),
        "Cost to accuracy": cost_table(results),
        "Latency": latency_table(results),
        "Tuning": tuning_table(results, sweeps=sweeps),
        "Failed": _failures(results),
    }


def _row(row: RowResult, results: TableResult) -> list[Words]:
    start: list[Words] = [str(row.rank or NO_VALUE), Name(row.model), joined(list(map(Name, row.setting))) or NO_VALUE]
    if not row.scored:
        return [*start, why_failed(row), *[NO_VALUE] * (len(_measures()) - 1 + len(LATENCY_COLUMNS))]
    note = {} if row.rank else {"top1": ", predictions missing"}
    cells = [text(measured(one, row.measures.get(one.key)), note.get(one.key, "")) for one in _measures()]
    latencies = [median_text(row.latency(runtime, results.measured_on)) for runtime in LATENCY_COLUMNS.values()]
    return [*start, *cells, *latencies]


def why_failed(row: RowResult) -> Text:
    """Return why a row has no score: missing folds, or the last line of its error."""
    # Missing folds are named even if one of them failed: the failure has its own line below.
    if row.failure.incomplete:
        return text(f"incomplete: {'; '.join(row.failure.incomplete)}")
    return text(f"{FAILED}: ", Name(row.failure.errors[0][1])) if row.failure.errors else text(FAILED)


def _majority_row(results: TableResult) -> list[Words]:
    majority = results.majority
    scores: dict[str, Words] = {"top1": per_cent(majority.accuracy), "macro_f1": f"{100 * majority.macro_f1:.1f}"}
    return [
        NO_VALUE,
        text("majority-class baseline (", Name(majority.class_name), ")"),
        NO_VALUE,
        *(scores.get(measure.key, NO_VALUE) for measure in _measures()),
        *[NO_VALUE] * len(LATENCY_COLUMNS),
    ]


def _failures(results: TableResult) -> list[Block]:
    rows = sorted(results.rows, key=lambda row: row.name)
    failed = [
        text(Name(row.name), f" (seed {seed}): ", Name(error)) for row in rows for seed, error in row.failure.errors
    ]
    # Pooling some of the folds would compare rows on different test images.
    incomplete = [
        text("Incomplete, so not compared: ", Name(row.name), f", {'; '.join(row.failure.incomplete)}")
        for row in rows
        if row.failure.incomplete
    ]
    return bullets([*failed, *incomplete])
