"""The leaderboard in short form, for a terminal."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as Grid

from bench.comparison.analysis import Comparison
from bench.comparison.settings import weights_part
from bench.comparison.tables import Row
from bench.config import OF_THE_TABLE
from bench.leaderboard import cells, page
from bench.leaderboard.summary import summary

if TYPE_CHECKING:
    from bench.estimates.estimating import Estimate
    from bench.latency.measure import Measured  # imports torch, which a command that only reads must not

TENTHS: Final = 10.0
"""Minutes below which tenths are shown."""

LONGEST_NAME: Final = 30
"""Characters up to which a model's name is never broken: in 80 columns, settings then have six or more."""

ROWS_SHOWN: Final = 30
"""Rows of a table that a terminal shows; leaderboard.md has all."""


def tables(comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Return each table with its summary: five columns that fit into 80 characters."""
    for comparison in comparisons:
        rows = comparison.ordered
        # Without vertical lines, the names of the default models and of most settings fit into 80 columns unbroken.
        grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        shared, visible = _shared_weights(rows), rows[:ROWS_SHOWN]
        longest = max((len(row.first.config.model) for row in visible), default=0)
        for name in ("Rank", "Model", "Setting", "Top-1 % (95 % CI)", "ONNX ms"):
            text = name in {"Model", "Setting"}
            # Where the width does not suffice, the setting gives way first.
            folds = name == "Setting" or (name == "Model" and longest > LONGEST_NAME)
            grid.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=not folds)
        for row in visible:
            grid.add_row(*_cells(row, comparison, shared))
        majority = comparison.table.majority
        score = cells.score_cell(comparison.majority)
        grid.add_row("-", f"majority class ({escape(majority.class_name)})", "-", score, "")
        # Not the title of the grid, in whose width it would be broken.
        yield page.heading(comparison)
        yield grid
        if len(rows) > ROWS_SHOWN:
            yield f"and {len(rows) - ROWS_SHOWN} more rows in leaderboard.md"
        if shared:
            models = {part: [model for model, own in shared.items() if own == part] for part in shared.values()}
            yield "; ".join(f"{part}: {', '.join(names)}" for part, names in models.items())
        yield from page.machine_lines(comparison, str)
        yield from summary(comparison, str)


def measured_lines(measured: "Measured") -> list[str]:
    """Return a line for each measurement from input on the host to logits on the host."""
    return [
        f"  {record.config.model} on {row.runtime}: {cells.latency_cell(row, {})}"
        for record, rows in measured.rows
        for row in rows
        if row.kind == "host"
    ]


def estimate_lines(estimates: "Sequence[Estimate]") -> Iterator[RenderableType]:
    """Return the estimated cost of each setting of a grid, and of all of it."""
    grid = Grid(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    # Names are folded before any number.
    for title in ("Model", "Setting"):
        grid.add_column(title, overflow="fold")
    for title in ("Runs", "Minutes", "Step, s", "GB of\nmemory", "MB of\ndisk"):
        grid.add_column(title, no_wrap=True)
    for estimate in estimates:
        overrides = estimate.task.config.overrides.items()
        setting = ", ".join(f"{name}={value}" for name, value in overrides if name not in OF_THE_TABLE) or "-"
        start = [escape(estimate.task.config.model), escape(setting), _runs(estimate)]
        if estimate.error is not None:
            grid.add_row(*start, "not estimated", "", "", "")
        elif estimate.runs:
            minutes = f"{estimate.seconds / 60:.1f} ({estimate.least_s / 60:.1f} to {estimate.most_s / 60:.1f})"
            step = "-" if estimate.step_s is None else f"{estimate.step_s:.3g}"
            grid.add_row(
                *start, minutes, step, f"{estimate.memory_bytes / 1e9:.1f}", f"{estimate.disk_bytes / 1e6:.0f}"
            )
        else:
            grid.add_row(*start, "-", "-", "-", "-")
    yield grid
    probed = [estimate for estimate in estimates if estimate.error is None]
    middle, least, most = (
        sum(estimate.runs * getattr(estimate, name) + estimate.measure_s for estimate in probed) / 60
        for name in ("seconds", "least_s", "most_s")
    )
    disk = sum(estimate.runs * estimate.disk_bytes for estimate in probed) + max(
        (estimate.state_bytes for estimate in probed), default=0
    )
    memory = max((estimate.memory_bytes for estimate in probed), default=0)
    minutes = f"{_minutes(middle)} minutes ({_minutes(least)} to {_minutes(most)})"
    load = 100 * max((estimate.others_share for estimate in probed), default=0.0)
    yield f"all: {minutes}, up to {memory / 1e9:.1f} GB of memory, {disk / 1e6:,.0f} MB of disk"
    yield (
        "The ranges are from the quartiles of the steps; audit and pixel cache are not included. Other processes used "
        f"up to {load:.0f} % of the CPU."
    )
    yield from (
        f"{estimate.task.config.model}: not estimated: {estimate.error}"
        for estimate in estimates
        if estimate.error is not None
    )


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < TENTHS else f"{value:.0f}"


def _runs(estimate: "Estimate") -> str:
    return f"{estimate.runs} ({estimate.done} done)" if estimate.done else str(estimate.runs)


def _shared_weights(rows: Sequence[Row]) -> dict[str, str]:
    """Return the part of the setting that names initial weights, by model, where all rows of a model share it."""
    parts: defaultdict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        # A failed run has no weights of its own.
        if row.checkpoints:
            parts[row.first.config.model].add(weights_part(row.first))
    shared = {model: variants.pop() for model, variants in parts.items() if len(variants) == 1}
    return {model: part for model, part in shared.items() if part is not None}


def _cells(row: Row, comparison: Comparison, shared: Mapping[str, str]) -> list[str]:
    rank, model = comparison.rank_of(row), row.first.config.model
    setting = [part for part in row.setting if part != shared.get(model)]
    start = [str(rank or "-"), escape(model), escape(", ".join(setting)) or "-"]
    if not row.checkpoints:
        return [*start, escape("; ".join(row.incomplete)) or page.FAILED, ""]
    time = cells.median_cell(row, cells.LATENCY_COLUMNS["ONNX ms"], comparison.table.sessions)
    return [*start, cells.score_cell(comparison.accuracy(row)), escape(time)]
