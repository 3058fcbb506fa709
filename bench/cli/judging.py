"""The commands that judge finished runs: compare, recommend, report; no torch."""

from pathlib import Path

from rich.console import Console

from bench.cli.arguments import CompareArgs, RecommendArgs, ReportArgs
from bench.comparison import analysis, recommend
from bench.comparison.analysis import Findings
from bench.leaderboard import advice, pair_text
from bench.records.paths import Paths, default_cache
from bench.report import page
from imgcls.errors import ConfigError


def compare_two(args: CompareArgs, console: Console) -> int:
    """Print the paired comparison of two rows or runs."""
    return pair_text.show((args.first, args.second), _read(args.results, args.data, console), console)


def recommend_one(args: RecommendArgs, console: Console) -> int:
    """Print what to ship; 3 where nothing fits."""
    limits = recommend.limits_of(
        runtime=args.runtime,
        max_latency_ms=args.max_latency_ms,
        min_recall=args.min_recall,
        max_size_mb=args.max_size_mb,
    )
    found = _read(args.results, args.data, console)
    if len(found) > 1:
        tables = ", ".join(f"{one.board.key.dataset} (table {one.board.key.id})" for one in found)
        message = f"--results {args.results} holds {len(found)} tables: {tables}; say which by --data NAME"
        raise ConfigError(message)
    return advice.show(limits, found[0], args.results, console)


def report(args: ReportArgs, console: Console) -> int:
    """Write the page and its plots."""
    found = _read(args.results, args.data, console)
    paths = Paths(results=args.results.absolute(), cache=default_cache().absolute())
    path = page.write(found, paths, args.to or args.results / "report", images=not args.no_images, console=console)
    console.print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def _read(results: Path, data: str | None, console: Console) -> list[Findings]:
    """Read the boards of a results folder, or of one data set in it; raises ConfigError where there are none."""
    if not results.is_dir():
        message = f"--results {results}: no such folder; run-all makes one"
        raise ConfigError(message)
    every = analysis.read(results, warn=lambda line: console.print(line, markup=False))
    found = [one for one in every if data is None or one.board.key.dataset == data]
    if not found:
        known = ", ".join(sorted({one.board.key.dataset for one in every})) or "none"
        message = f"--data {data}: no run on it in {results}; data sets there: {known}"
        raise ConfigError(message if every else f"--results {results}: no runs there; run-all makes some")
    return found
