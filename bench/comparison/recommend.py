"""Which model to ship under limits of latency, recall and size, and what each limit costs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.comparison.analysis import Findings
from bench.comparison.speeds import shown
from bench.comparison.tables import Checkpoint, Entry
from bench.stats.intervals import percentile
from bench.stats.pairs import ALPHA
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES

NOTHING_FITS: Final = 3
"""Exit status."""

PERCENT: Final = 90
"""The limit of latency is on p90: a tenth of all pictures may take longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a model must keep to; None or nothing means no limit."""

    runtime: str
    max_latency_ms: float | None = None
    min_recall: Mapping[str, float]
    max_size_mb: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether an entry keeps to a limit, what it has, and whether its whole interval keeps to it too."""

    fits: bool
    sure: bool
    words: str


Rule = Callable[[Entry], Verdict]


def limits_of(
    *, runtime: str, max_latency_ms: float | None, min_recall: Iterable[str], max_size_mb: float | None
) -> Limits:
    """Read the limits from the command line's words; raises ConfigError."""
    if runtime not in RUNTIMES:
        message = f"--runtime {runtime}: unknown; known: {', '.join(RUNTIMES)}"
        raise ConfigError(message)
    for flag, value in (("--max-latency-ms", max_latency_ms), ("--max-size-mb", max_size_mb)):
        if value is not None and not value > 0:
            message = f"{flag} {value:g}: use a number above 0"
            raise ConfigError(message)
    least = dict(_class_and_share(text) for text in min_recall)
    return Limits(runtime=runtime, max_latency_ms=max_latency_ms, min_recall=least, max_size_mb=max_size_mb)


def _class_and_share(text: str) -> tuple[str, float]:
    class_name, _, share = text.rpartition("=")
    try:
        least = float(share)
    except ValueError:
        least = -1.0
    if not class_name or not 0 <= least <= 1:
        message = f"--min-recall {text}: use CLASS=SHARE with a share from 0 to 1, such as glass=0.8"
        raise ConfigError(message)
    return class_name, least


def recommended(found: Findings, limits: Limits, rules: Mapping[str, Rule]) -> Entry | None:
    """Give the fastest of those that cannot be told from the most accurate one that keeps to all limits."""
    fitting = fitting_entries(found, rules)
    if not fitting:
        return None
    return min([fitting[0], *tied_with(fitting[0], fitting, found)], key=lambda entry: _time(entry, limits.runtime))


def fitting_entries(found: Findings, rules: Mapping[str, Rule]) -> list[Entry]:
    """Give the compared entries that keep to all limits, most accurate first."""
    return [entry for entry in found.compared if all(rule(entry).fits for rule in rules.values())]


def tied_with(entry: Entry, others: Iterable[Entry], found: Findings) -> list[Entry]:
    """Give those of some entries that the whole table's test cannot tell from one."""
    return [other for other in others if other is not entry and found.adjusted(entry, other) > ALPHA]


def _time(entry: Entry, runtime: str) -> float:
    row = shown(entry, runtime)
    return percentile(row[1].samples_ms, 50) if row else float("inf")


def chosen(entry: Entry) -> Checkpoint:
    """Give the checkpoint that val prefers: test reports, it does not choose."""
    return max(entry.checkpoints, key=lambda one: one.mean("val", "top1_accuracy"))
