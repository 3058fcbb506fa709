"""leaderboard.md and leaderboard.csv, made from the records alone."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.comparison.analysis import Comparison, read
from bench.comparison.scores import worst_class
from bench.comparison.settings import colours_of, kind_of
from bench.comparison.speeds import reference_runtime, runtime_text, runtimes_of
from bench.comparison.tables import Row
from bench.leaderboard import spreadsheet
from bench.leaderboard.cells import (
    LATENCY_COLUMNS,
    NO_VALUE,
    Bar,
    at_least,
    chart,
    code,
    latency_text,
    median_cell,
    score_cell,
    table,
)
from bench.leaderboard.details import (
    checkpoint_table,
    class_table,
    confusion_table,
    cost_table,
    pair_table,
    pareto_table,
)
from bench.leaderboard.latency_table import latency_table
from bench.leaderboard.pair_text import diversity_table, imbalance_table
from bench.leaderboard.provenance import facts, tuning_table
from bench.leaderboard.summary import Style, listed, notes, summary
from bench.recipes import budget_text
from bench.records.environment import REPOSITORY
from bench.records.paths import Paths
from bench.runs import failures
from imgcls.files import write_text
from imgcls.models.operators import COUNTING

FAILED: Final = "failed"

COLUMNS: Final = (
    "Rank",
    "Model",
    "Setting",
    "Top-1 % (95 % CI)",
    "Macro-F1 %",
    "Params (M)",
    "GMACs",
    *LATENCY_COLUMNS,
)

PICTURE: Final = "leaderboard-{}.svg"
"""File name of a table's picture, by the id of the table."""

LEGEND: Final = "docs/leaderboard.md"
"""The page of this repository that explains every column and mark."""


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


@_uncollected()
def write(results: Path) -> list[Comparison]:
    """Write ``leaderboard.md``, its pictures, and ``leaderboard.csv`` from all records of a results folder.

    Returns what they show.
    """
    comparisons = read(results)
    paths = Paths(results=results)
    pictures = {picture(comparison): chart_of(comparison) for comparison in comparisons}
    for old in results.glob(PICTURE.format("*")):
        if old.name not in pictures:
            old.unlink()
    for name, text in pictures.items():
        write_text(text, results / name)
    write_text(markdown(comparisons, results=results), paths.leaderboard)
    write_text(spreadsheet.text(comparisons), paths.spreadsheet)
    return comparisons


def markdown(comparisons: Sequence[Comparison], *, results: Path | None = None) -> str:
    """Return the whole page; its link to the legend is relative to ``results``."""
    count = sum(len(comparison.table.records) for comparison in comparisons)
    records = f"{count:,} record{'' if count == 1 else 's'}"
    start = f"Made by `python -m bench leaderboard` from {records}. Columns and marks: {_legend(results)}.\n"
    return "\n".join(["# Leaderboard\n", start, *map(_section, comparisons)])


def _legend(results: Path | None) -> str:
    """Return a link to the legend; its path alone if the results are kept outside this repository."""
    if results is None or not results.resolve().is_relative_to(REPOSITORY):
        return code(LEGEND)
    return f"[{LEGEND}]({Path(os.path.relpath(REPOSITORY / LEGEND, results.resolve())).as_posix()})"


def heading(comparison: Comparison) -> str:
    """Return the heading of a table as plain text: data, budget, machine, and the id that commands take."""
    key = comparison.table.key
    return f"{key.dataset}: {budget_text(key.budget)}; {key.machine}; table {key.id}"


def picture(comparison: Comparison) -> str:
    """Return the file name of a table's picture, beside the page."""
    return PICTURE.format(comparison.table.key.id)


def chart_of(comparison: Comparison) -> str:
    """Return the accuracies of a table as a picture."""
    colours = colours_of([row.first.config.model for row in comparison.ordered])
    bars = [
        Bar(
            rank=str(comparison.rank_of(row) or NO_VALUE),
            name=row.name,
            score=comparison.accuracy(row),
            colour=colours[row.first.config.model],
            kind=kind_of(row.first),
        )
        for row in comparison.ordered
        if row.checkpoints
    ]
    return chart(heading(comparison), bars)


def _section(comparison: Comparison) -> str:
    key = comparison.table.key
    title = f"## {code(key.dataset)}: {budget_text(key.budget)}; {key.machine}; table {code(key.id)}\n"
    lines = [title, *(f"- {sentence}" for sentence in summary(comparison, code)), "", *main_table(comparison), ""]
    lines += [f"![Accuracies with 95 % intervals]({picture(comparison)})", ""]
    for name, part in detail_tables(comparison).items():
        # Without the empty lines GitHub would show the table as text.
        lines += [f"<details><summary>{name}</summary>", "", *part, "", "</details>", ""] if part else []
    return "\n".join(lines)


def main_table(comparison: Comparison) -> list[str]:
    """Return the main table as Markdown: nine columns; a failed run is a row with its reason.

    Below it are the latency of other machines than the training machine, if they have measured any, and the reason for
    GMACs that are lower bounds.
    """
    rows = [_row(row, comparison) for row in comparison.ordered]
    others = [f"- {line}" for line in (*machine_lines(comparison, code), *_gmacs_lines(comparison))]
    # All columns are kept, even empty ones: readers and scripts find nine in every table.
    main = table(COLUMNS, [*rows, _majority_row(comparison)], left=3, keep=len(COLUMNS))
    return [*main, "", *others] if others else main


def machine_lines(comparison: Comparison, style: Style) -> list[str]:
    """Return a line for each other measuring machine, with the latency of some rows on it."""
    shown_of, own = comparison.table.measured_on, comparison.table.key.machine
    lines = [f"The latency columns are of {shown_of}, as {own} has measured nothing."] if shown_of != own else []
    for machine in comparison.table.machines:
        rows = [replace(row, measured_on=machine) for row in comparison.ordered if row.checkpoints]
        # Without any figure, the cells name the reason in the first runtime.
        runtime = reference_runtime(rows) or next(iter(runtimes_of(rows)), None)
        if machine != shown_of and runtime is not None:
            cells = [f"{style(row.name)} {median_cell(row, runtime, comparison.table.sessions)}" for row in rows]
            lines.append(f"On {machine}, p50 in ms on {runtime}: {listed(cells)}.")
    return lines


def _gmacs_lines(comparison: Comparison) -> list[str]:
    """Return a sentence on the rows whose GMACs are lower bounds, if there are any."""
    rows = [row for row in comparison.ordered if row.checkpoints and row.outcome.model.uncounted_products]
    if not rows:
        return []
    models = [row.outcome.model for row in rows]
    operators = sorted({name for model in models for name in model.uncounted_products})
    names, lacking = listed([code(row.name) for row in rows]), listed([code(name) for name in operators])
    # Of a network that could be built, the present method has counted what it can.
    old = any(model.counting < COUNTING for model in models)
    why = " (counted by an earlier version; the networks cannot be built again from the records)" if old else ""
    return [f"GMACs and TMACs of {names} are lower bounds, without the matrix products of {lacking}{why}."]


def detail_tables(comparison: Comparison, *, sweeps: str = "sweeps") -> dict[str, list[str]]:
    """Return the sections below the main table by title, as Markdown lines; some may be empty.

    ``sweeps`` is the path of the folder of studies, relative to the page.
    """
    compared = comparison.table
    return {
        "Notes": [f"- {sentence}" for sentence in notes(comparison, code)],
        "Conditions": facts(compared),
        "Rows": row_table(comparison),
        "Machines": machine_table(comparison),
        "Pairs": pair_table(comparison),
        "Class imbalance": imbalance_table(comparison),
        "Diversity": diversity_table(comparison),
        "Checkpoints": checkpoint_table(comparison),
        "Classes": class_table(comparison.ordered),
        "Most confused classes": confusion_table(comparison),
        "Pareto fronts": pareto_table(comparison),
        "Cost to accuracy": cost_table(comparison),
        "Latency": latency_table(comparison.ordered, compared.sessions),
        "Tuning": tuning_table(comparison, sweeps=sweeps),
        "Failed": _failures(comparison),
    }


def _row(row: Row, comparison: Comparison) -> list[str]:
    rank = comparison.rank_of(row)
    # Names may contain any character, and code spans keep them from becoming markup.
    start = [str(rank or NO_VALUE), code(row.first.config.model), ", ".join(map(code, row.setting)) or NO_VALUE]
    if not row.checkpoints:
        return [*start, why_failed(row), *[NO_VALUE] * (len(COLUMNS) - 4)]
    model = row.outcome.model
    note = "" if rank else ", predictions missing"
    return [
        *start,
        score_cell(comparison.accuracy(row)) + note,
        score_cell(comparison.macro_f1(row)),
        f"{model.num_params / 1e6:.2f}",
        f"{at_least(model)}{model.gmacs:.3f}",
        *(median_cell(row, runtime, comparison.table.sessions) for runtime in LATENCY_COLUMNS.values()),
    ]


def why_failed(row: Row, style: Style = code) -> str:
    """Return why a row has no score: missing folds, or the last line of its error in some style."""
    # Missing folds are named even if one of them failed: the failure has its own line below.
    if row.incomplete:
        return f"incomplete: {'; '.join(row.incomplete)}"
    errors = [failures.last_line(record.error) for record in row.records if record.error]
    return f"{FAILED}: {style(errors[0])}" if errors else FAILED


def _majority_row(comparison: Comparison) -> list[str]:
    majority = comparison.table.majority
    return [
        NO_VALUE,
        f"majority-class baseline ({code(majority.class_name)})",
        NO_VALUE,
        score_cell(comparison.majority),
        f"{100 * majority.macro_f1:.1f}",
        *[NO_VALUE] * (len(COLUMNS) - 5),
    ]


def row_table(comparison: Comparison) -> list[str]:
    """Return a line per row: probability of being best, seeds, worst class, training time, latency in each runtime."""
    runtimes = runtimes_of(comparison.table.rows)
    columns = ["Model", "Probability best", "Init", "Seeds", "Seeds' top-1 %"]
    columns += ["Worst class % (simultaneous 95 % CI)", "Training, s"]
    best = {row.row_id: f"{100 * share:.0f} %" for row, share in zip(comparison.compared, comparison.best, strict=True)}
    lines = [
        [
            *_over_seeds(row, best.get(row.row_id, NO_VALUE)),
            *(latency_text(row, runtime, comparison.table.sessions) for runtime in runtimes),
        ]
        for row in comparison.ordered
        if row.checkpoints
    ]
    return table([*columns, *(f"{runtime_text(name, comparison.table)} p50 / p90" for name in runtimes)], lines)


def machine_table(comparison: Comparison) -> list[str]:
    """Return a line per row and measuring machine, with accuracy and latencies; empty if only one has measured."""
    machines = comparison.table.machines
    if len(machines) == 1:
        return []
    every = [replace(row, measured_on=name) for row in comparison.ordered if row.checkpoints for name in machines]
    runtimes = runtimes_of(every)
    lines = [
        [
            code(row.name),
            score_cell(comparison.accuracy(row)),
            row.measured_on,
            *(latency_text(row, runtime, comparison.table.sessions) for runtime in runtimes),
        ]
        for row in every
    ]
    columns = ["Model", "Top-1 % (95 % CI)", "Measured on", *(f"{name} p50 / p90" for name in runtimes)]
    return table(columns, lines, left=3)


def _over_seeds(row: Row, best: str) -> list[str]:
    # Folds of a seed are trained one after the other, so that their times add up.
    worst = worst_class(row)
    values = [checkpoint.accuracy for checkpoint in row.checkpoints]
    times = [sum(outcome.training.train_time_s for outcome in checkpoint.outcomes) for checkpoint in row.checkpoints]
    return [
        code(row.name),
        best,
        row.init,
        ", ".join(str(checkpoint.seed) for checkpoint in row.checkpoints),
        f"{100 * min(values):.1f} to {100 * max(values):.1f}" if len(row.checkpoints) > 1 else NO_VALUE,
        f"{code(worst[0])}: {score_cell(worst[1])}" if worst else NO_VALUE,
        f"{sum(times) / len(times):.0f}",
    ]


def _failures(comparison: Comparison) -> list[str]:
    lines = [
        f"- {code(row.name)} (seed {record.config.seed}): {code(failures.last_line(record.error or ''))}"
        for row in comparison.table.rows
        for record in row.records
        if record.outcome is None
    ]
    # Pooling some of the folds would compare rows on different test images.
    lines += [
        f"- Incomplete, so not compared: {code(row.name)}, {'; '.join(row.incomplete)}"
        for row in comparison.table.rows
        if row.incomplete
    ]
    return lines
