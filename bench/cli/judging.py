"""The commands that judge finished runs: leaderboard, compare, recommend, report; no torch."""

from collections.abc import Sequence

from rich.console import Console

from bench.cli.arguments import CompareArgs, RecommendArgs, ReportArgs, ResultsArgs, TablesArgs
from bench.comparison import analysis, recommend
from bench.comparison.analysis import Comparison
from bench.leaderboard import advice, pair_text
from bench.leaderboard.page import heading, write
from bench.leaderboard.terminal import print_tables
from bench.records.paths import Paths
from imgcls.errors import ConfigError


def leaderboard(args: ResultsArgs, console: Console) -> int:
    """Write the leaderboard from the records, and print it."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    print_tables(write(args.results, warn=lambda line: console.print(line, markup=False)), console)
    return 0


def compare_two(args: CompareArgs, console: Console) -> int:
    """Print the paired comparison of two rows or runs."""
    return pair_text.show((args.first, args.second), _read(args, console), console)


def recommend_one(args: RecommendArgs, console: Console) -> int:
    """Print what to ship; return 3 if nothing keeps to the limits."""
    limits = recommend.limits_of(
        runtime=args.runtime,
        max_latency_ms=args.max_latency_ms,
        min_recall=args.min_recall,
        max_size_mb=args.max_size_mb,
    )
    found = _read(args, console)
    if len(found) > 1:
        message = f"--results {args.results} holds {len(found)} tables: {_listed(found)}; choose one by --table ID"
        raise ConfigError(message)
    return advice.show(limits, found[0], args.results, console)


def report(args: ReportArgs, console: Console) -> int:
    """Write the page and its plots."""
    from bench.report import page  # noqa: PLC0415 - Matplotlib takes a second, and only this command draws

    found = _read(args, console)
    paths = Paths(results=args.results.absolute())
    path = page.write(found, paths, args.to or paths.report, images=not args.no_images, console=console)
    console.print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def _read(args: TablesArgs, console: Console) -> list[Comparison]:
    """Read the tables that are asked for, by data set or id; raises ConfigError if there are none."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    every = analysis.read(args.results, warn=lambda line: console.print(line, markup=False))
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
