"""The commands leaderboard, compare, recommend and report, which read records and do not load torch."""

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console, RenderableType

from bench.cli.arguments import CompareArgs, RecommendArgs, ReportArgs, ResultsArgs, TablesArgs, VerifyArgs
from bench.comparison.analysis import Comparison
from bench.comparison.decisions.compare import compare
from bench.comparison.decisions.limits import Limit, Limits
from bench.comparison.decisions.recommend import recommend
from bench.comparison.decisions.sides import choose
from bench.comparison.indexing.selection import Folder, open_folder
from bench.comparison.measures import MEASURES
from bench.comparison.tables import TableKey
from bench.leaderboard.advice import advice
from bench.leaderboard.page import heading, write
from bench.leaderboard.pair_text import pair_document
from bench.leaderboard.terminal import tables
from bench.records.paths import Paths
from bench.render.documents import Block
from bench.render.terminal import terminal
from imgcls.data.sources.file_names import composed
from imgcls.data.sources.locations import name_of
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES

LOGGER = logging.getLogger(__name__)

NOTHING_FITS: Final = 3
"""Exit status if no row meets all limits, or if the one that does has learned nothing."""

MOST_MARGIN: Final = 50.0
"""Percentage points below which a margin must be."""


def leaderboard(args: ResultsArgs, console: Console) -> int:
    """Write the leaderboard from the records, and print it."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    show(tables(write(Paths(results=args.results))), console)
    return 0


def verify_all(args: VerifyArgs, console: Console) -> int:
    """Verify a results folder and print the problems; return 0 if there are none, else 1."""
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    from bench.verification import verify  # noqa: PLC0415 - loads ONNX Runtime

    found = verify(Paths(results=args.results))
    for problem in found.problems:
        console.print(f"{problem.path}: {problem.reason}", markup=False)
    checked = f"{found.records:,} records and {found.others:,} other files: {len(found.problems):,} problems"
    elsewhere = (
        f"predictions elsewhere: {found.without_predictions:,}; artifacts elsewhere: {found.without_artifacts:,}"
    )
    console.print(f"{checked}; no digest (of an earlier version): {found.without_digest:,}; {elsewhere}")
    return 1 if found.problems else 0


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
    first, second = choose((args.first, args.second), read_tables(args, names=(args.first, args.second)))
    show_document(pair_document(compare(second, first)), console)
    return 0


def recommend_one(args: RecommendArgs, console: Console) -> int:
    """Print the recommended model; return 3 if no row meets all limits."""
    limits = limits_of(args)
    folder, selected = _selected(args)
    # Rows of different tables differ in data, budget or machine, and are not compared with each other.
    if len(selected) > 1:
        message = (
            f"--results {args.results} holds {len(selected)} tables: {_listed(selected)}; choose one by --table ID"
        )
        raise ConfigError(message)
    comparisons = _read(args, folder, selected, args.machine)
    measured = comparisons[0].table.machines
    if args.machine is not None and args.machine not in measured:
        machines = ", ".join(measured) or "none"
        message = f"--machine {args.machine}: has not measured this table; machines that have: {machines}"
        raise ConfigError(message)
    _require_possible(limits, comparisons[0])
    recommendation = recommend(comparisons[0], limits, args.results)
    show(map(str, advice(recommendation)), console)
    return NOTHING_FITS if recommendation.row is None or recommendation.weak else 0


def limits_of(args: RecommendArgs) -> Limits:
    """Return the limits; raises ConfigError if one is invalid."""
    if args.runtime not in RUNTIMES:
        message = f"--runtime {args.runtime}: unknown; known: {', '.join(RUNTIMES)}"
        raise ConfigError(message)
    limits = [Limit(kind="runtime", label=f"--runtime {args.runtime}")]
    if args.max_latency_ms is not None:
        _require_positive("--max-latency-ms", args.max_latency_ms)
        limits.append(
            Limit(kind="latency", label=f"--max-latency-ms {args.max_latency_ms:g}", bound=args.max_latency_ms)
        )
    # Of a class that is given twice, the last value counts.
    limits += [
        Limit(kind="recall", label=f"--min-recall {name}={share:g}", subject=name, bound=share)
        for name, share in dict(map(_class_and_share, args.min_recall)).items()
    ]
    if args.max_size_mb is not None:
        _require_positive("--max-size-mb", args.max_size_mb)
        limits.append(Limit(kind="size", label=f"--max-size-mb {args.max_size_mb:g}", bound=1e6 * args.max_size_mb))
    limits += map(_measure, args.limit)
    return Limits(
        runtime=args.runtime, limits=tuple(limits), margin=None if args.margin is None else _margin(args.margin)
    )


def _require_possible(limits: Limits, comparison: Comparison) -> None:
    """Raise ConfigError for an unknown class, or a margin of less than one image, which is usually a fraction."""
    names, images = comparison.table.first.dataset.class_names, comparison.number
    for limit in limits.limits:
        if limit.kind == "recall" and limit.subject not in names:
            message = f"--min-recall {limit.subject}: no such class; classes: {', '.join(names)}"
            raise ConfigError(message)
    if limits.margin is not None and limits.margin * images < 1:
        message = (
            f"--margin {100 * limits.margin:g}: one of {images:,} test images is {100 / images:.2g} percentage points; "
            "margins are in percentage points, such as 1"
        )
        raise ConfigError(message)


def _require_positive(flag: str, value: float) -> None:
    # Negated, so that NaN is refused too.
    if not value > 0:
        message = f"{flag} {value:g}: use a number above 0"
        raise ConfigError(message)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _margin(text: str) -> float:
    """Return a margin in percentage points as a fraction."""
    points = _number(text)
    if not 0 < points < MOST_MARGIN:
        message = f"--margin {text}: use percentage points above 0 and below {MOST_MARGIN:g}, such as 1"
        raise ConfigError(message)
    return points / 100


def _class_and_share(text: str) -> tuple[str, float]:
    # From the right, as the name of a class may contain "=".
    class_name, _, share = text.rpartition("=")
    if not class_name or not 0 <= _number(share) <= 1:
        message = f"--min-recall {text}: use CLASS=SHARE with a share from 0 to 1, such as glass=0.8"
        raise ConfigError(message)
    return composed(class_name), _number(share)


def _measure(text: str) -> Limit:
    key, _, value = text.partition("=")
    if key not in MEASURES or not _number(value) >= 0:
        message = f"--limit {text}: use MEASURE=VALUE, such as gmacs=0.5; measures: {', '.join(MEASURES)}"
        raise ConfigError(message)
    if MEASURES[key].unit == "%" and _number(value) <= 1:
        message = f"--limit {text}: {key} is in per cent; use a value above 1, such as {key}=80"
        raise ConfigError(message)
    if key == "size":
        message = f"--limit {text}: use --max-size-mb, which is about the file that the runtime reads"
        raise ConfigError(message)
    return Limit(kind="measure", label=f"--limit {text}", subject=key, bound=_number(value) / MEASURES[key].scale)


def report(args: ReportArgs, console: Console) -> int:
    """Write the HTML page and its plots."""
    from bench.report import page  # noqa: PLC0415 - only this command needs a template engine

    comparisons = read_tables(args)
    paths = Paths(results=args.results.absolute())
    path = page.write(comparisons, paths, args.to or paths.report, images=not args.no_images)
    console.print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)", markup=False)
    return 0


def read_tables(args: TablesArgs, machine: str | None = None, names: Sequence[str] = ()) -> list[Comparison]:
    """Read the tables that the flags select, with the latency of a machine; raises ConfigError if there are none.

    With ``names`` of rows or runs, tables that have none of them may be missing.
    """
    folder, selected = _selected(args)
    return _read(args, folder, folder.naming(names, selected) if names else selected, machine)


def _read(args: TablesArgs, folder: Folder, keys: Sequence[TableKey], machine: str | None) -> list[Comparison]:
    comparisons, refusals = folder.read(keys, machine)
    if not comparisons:
        nothing = f"--results {args.results}: no runs there that can be shown; run-all makes some"
        raise ConfigError(refusals[0] if refusals else nothing)
    for reason in refusals:
        LOGGER.warning(reason)
    return comparisons


def _selected(args: TablesArgs) -> tuple[Folder, list[TableKey]]:
    """Return the results folder, and which of its tables the flags select; raises ConfigError if there are none."""
    # Each flag is checked by itself, so that the error names the one that excludes everything, and lists valid values.
    if not args.results.is_dir():
        message = f"--results {args.results}: no such folder; run-all makes one"
        raise ConfigError(message)
    folder = open_folder(Paths(results=args.results))
    every = list(folder.tables)
    if not every:
        message = f"--results {args.results}: no runs there that can be shown; run-all makes some"
        raise ConfigError(message)
    name = None if args.data is None else name_of(args.data)
    of_data = [key for key in every if name in {None, key.dataset}]
    if not of_data:
        datasets = ", ".join(sorted({key.dataset for key in every}))
        message = f"--data {args.data}: no run on it in {args.results}; data sets there: {datasets}"
        raise ConfigError(message)
    selected = [key for key in of_data if args.table in {None, key.id}]
    if not selected:
        message = f"--table {args.table}: no such table in {args.results}; tables there: {_listed(of_data)}"
        raise ConfigError(message)
    return folder, selected


def _listed(keys: Sequence[TableKey]) -> str:
    return "; ".join(f"{key.id} ({heading(key)})" for key in keys)
