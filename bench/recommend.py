"""Which model to ship under limits of latency, recall and size, and what each limit costs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.acceptance import acceptance, check_of
from bench.boards import Checkpoint, Entry
from bench.cells import figure, score_cell
from bench.findings import Findings, accuracy, recalls
from bench.latency import enough_queries
from bench.measurements import Measurement
from bench.records import RunRecord
from bench.speeds import interval_over_rounds, shown
from bench.stats import percentile
from bench.words import difference_text, listed
from imgcls.errors import ConfigError
from imgcls.runtimes import RUNTIMES, artifact_of

NOTHING_FITS: int = 3
"""Exit status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a model must keep to; None or nothing means no limit."""

    runtime: str
    max_latency_ms: float | None = None
    min_recall: tuple[tuple[str, float], ...] = ()
    max_size_mb: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Whether an entry keeps to one limit, in words; ``sure`` is whether its interval does too."""

    fits: bool
    sure: bool
    words: str


Rule = Callable[[Entry], Verdict]


def rules(limits: Limits) -> dict[str, Rule]:
    """Give a rule for each limit, by the words that asked for it."""
    found: dict[str, Rule] = {}
    if limits.max_latency_ms is not None:
        most = limits.max_latency_ms
        found[f"--max-latency-ms {most:g}"] = lambda entry: _latency(entry, limits.runtime, most)
    for class_name, least in limits.min_recall:
        found[f"--min-recall {class_name}={least:g}"] = lambda entry, name=class_name, low=least: _recall(entry, name, low)
    if limits.max_size_mb is not None:
        size = limits.max_size_mb
        found[f"--max-size-mb {size:g}"] = lambda entry: _size(entry, limits.runtime, size)
    return found
