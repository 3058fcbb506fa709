"""The commands leaderboard, compare, recommend and report: they read records, and do without torch."""

from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType

from bench.cli.arguments import CompareArgs, RecommendArgs, ReportArgs, ResultsArgs, TablesArgs
from bench.comparison import analysis, recommend
from bench.comparison.analysis import Comparison
from bench.comparison.recommend import NOTHING_FITS
from bench.leaderboard import advice, pair_text
from bench.leaderboard.page import heading, write
from bench.leaderboard.terminal import tables
from bench.records.paths import Paths
from imgcls.errors import ConfigError


def leaderboard(args: ResultsArgs, console: Console) -> int:
    """Write the leaderboard from the records, and print it."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    show(tables(write(args.results)), console)
    return 0


def show(parts: Iterable[RenderableType], console: Console) -> None:
    """Print tables and sentences."""
    for part in parts:
        console.print(part, markup=False)


def compare_two(args: CompareArgs, console: Console) -> int:
    """Print the paired comparison of two rows or runs."""
    show(pair_text.comparison_of((args.first, args.second), _read(args)), console)
    return 0


def recommend_one(args: RecommendArgs, console: Console) -> int:
    """Print what to ship; return 3 if nothing keeps to the limits."""
    limits = recommend.limits_of(
        runtime=args.runtime,
        max_latency_ms=args.max_latency_ms,
        min_recall=args.min_recall,
        max_size_mb=args.max_size_mb,
    )
    found = _read(args)
    if len(found) > 1:
        message = f"--results {args.results} holds {len(found)} tables: {_listed(found)}; choose one by --table ID"
        raise ConfigError(message)
    answer = advice.advice(limits, found[0], args.results)
    show(answer.lines, console)
    return 0 if answer.fits else NOTHING_FITS


def report(args: ReportArgs, console: Console) -> int:
    """Write the page and its plots."""
    from bench.report import page  # noqa: PLC0415 - Matplotlib takes a second, and only this command draws

    found = _read(args)
    paths = Paths(results=args.results.absolute())
    path = page.write(found, paths, args.to or paths.report, images=not args.no_images)
    console.print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def _read(args: TablesArgs) -> list[Comparison]:
    """Read the tables that are asked for, by data set or id; raises ConfigError if there are none."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    every = analysis.read(args.results)
    if not every:
        message = f"--results {args.results}: no runs there; run-all makes some"
        raise ConfigError(message)
    of_data = [one for one in every if args.data in {None, one.table.key.dataset}]
    if not of_data:
        known = ", ".join(sorted({one.table.key.dataset for one in every}))
        message = f"--data {args.data}: no run on it in {args.results}; data sets there: {known}"
        raise ConfigError(message)
    found = [one for one in of_data if args.table in {None, one.table.key.id}]
    if not found:
        message = f"--table {args.table}: no such table in {args.results}; tables there: {_listed(of_data)}"
        raise ConfigError(message)
    return found


def _listed(comparisons: Sequence[Comparison]) -> str:
    return "; ".join(f"{one.table.key.id} ({heading(one)})" for one in comparisons)
