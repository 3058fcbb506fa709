"""The commands leaderboard, compare, recommend and report, which read records and do not load torch."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console, RenderableType

from bench.cli.arguments import CompareArgs, RecommendArgs, ReportArgs, ResultsArgs, TablesArgs
from bench.cli.limits import limits_of, require_visible
from bench.comparison import analysis
from bench.comparison.analysis import Comparison
from bench.comparison.decisions.compare import compare
from bench.comparison.decisions.recommend import recommend
from bench.comparison.decisions.sides import choose
from bench.leaderboard.advice import advice
from bench.leaderboard.page import heading, write
from bench.leaderboard.pair_text import pair_document
from bench.leaderboard.terminal import tables
from bench.records.paths import Paths
from bench.render.documents import Block
from bench.render.terminal import terminal
from imgcls.data.sources.rows import is_table
from imgcls.data.sources.table import read_table
from imgcls.errors import ConfigError

NOTHING_FITS = 3
"""Exit status if no row meets all limits, or if the one that does has learned nothing."""


def leaderboard(args: ResultsArgs, console: Console) -> int:
    """Write the leaderboard from the records, and print it."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    show(tables(write(Paths(results=args.results))), console)
    return 0


def show(parts: Iterable[RenderableType], console: Console) -> None:
    """Print tables and lines of text."""
    for part in parts:
        # Names of classes, files and folders may contain square brackets, which rich would read as markup.
        console.print(part, markup=False)


def show_document(blocks: Sequence[Block], console: Console) -> None:
    """Print a document."""
    show(terminal(blocks), console)


def compare_two(args: CompareArgs, console: Console) -> int:
    """Print the paired comparison of two rows or runs."""
    first, second = choose((args.first, args.second), read_tables(args))
    show_document(pair_document(compare(second, first)), console)
    return 0


def recommend_one(args: RecommendArgs, console: Console) -> int:
    """Print the recommended model; return 3 if no row meets all limits."""
    limits = limits_of(args)
    comparisons = read_tables(args, args.machine)
    # Rows of different tables differ in data, budget or machine, and are not compared with each other.
    if len(comparisons) > 1:
        message = (
            f"--results {args.results} holds {len(comparisons)} tables: {_listed(comparisons)}; "
            "choose one by --table ID"
        )
        raise ConfigError(message)
    measured = comparisons[0].table.machines
    if args.machine is not None and args.machine not in measured:
        machines = ", ".join(measured) or "none"
        message = f"--machine {args.machine}: has not measured this table; machines that have: {machines}"
        raise ConfigError(message)
    require_visible(limits.margin, comparisons[0].number)
    recommendation = recommend(comparisons[0], limits, args.results)
    show(map(str, advice(recommendation)), console)
    return NOTHING_FITS if recommendation.row is None or recommendation.weak else 0


def report(args: ReportArgs, console: Console) -> int:
    """Write the HTML page and its plots."""
    from bench.report import page  # noqa: PLC0415 - only this command needs a template engine

    comparisons = read_tables(args)
    paths = Paths(results=args.results.absolute())
    path = page.write(comparisons, paths, args.to or paths.report, images=not args.no_images)
    console.print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def read_tables(args: TablesArgs, machine: str | None = None) -> list[Comparison]:
    """Read the tables that the flags select, with the latency of a machine; raises ConfigError if there are none."""
    # Each flag is checked by itself, so that the error names the one that excludes everything, and lists valid values.
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    every = analysis.read(args.results, machine)
    if not every:
        message = f"--results {args.results}: no runs there; run-all makes some"
        raise ConfigError(message)
    name = None if args.data is None else _dataset_name(args.data)
    of_data = [comparison for comparison in every if name in {None, comparison.table.key.dataset}]
    if not of_data:
        datasets = ", ".join(sorted({comparison.table.key.dataset for comparison in every}))
        message = f"--data {args.data}: no run on it in {args.results}; data sets there: {datasets}"
        raise ConfigError(message)
    selected = [comparison for comparison in of_data if args.table in {None, comparison.table.key.id}]
    if not selected:
        message = f"--table {args.table}: no such table in {args.results}; tables there: {_listed(of_data)}"
        raise ConfigError(message)
    return selected


def _dataset_name(data: str) -> str:
    """Return the name of a data set that is given by it, by its folder or by its table of labels."""
    path = Path(data).expanduser()
    if is_table(path) and path.is_file():
        return read_table(path).name
    return path.resolve().name if path.exists() else data


def _listed(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(f"{comparison.table.key.id} ({heading(comparison.table.key)})" for comparison in comparisons)
