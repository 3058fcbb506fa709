"""Which latency figure of a row is shown, and how it compares with another row's."""

import statistics
from dataclasses import dataclass
from typing import Final

from bench.comparison.acceptance import refused
from bench.comparison.sessions import LEAST_ROUNDS, round_samples
from bench.comparison.tables import Row, Table
from bench.records.measurements import Measurement
from bench.records.schema import RunRecord
from bench.stats.intervals import Interval, ratio_interval
from imgcls.inference.runtimes import RUNTIMES

PREFERRED: Final = ("onnxruntime-cuda", "onnxruntime-cpu", "pytorch-cuda", "pytorch-cpu")
"""Runtimes by which speeds are compared: the first that most rows have figures of."""

ORDER: Final = ("valid", "noisy", None)
"""Validities from the best; a quick row was not judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """A time over another, each ratio taken within a round, and its 95 % interval."""

    value: float
    interval: Interval


def shown(entry: Row, runtime: str) -> tuple[RunRecord, Measurement] | None:
    """Return a row's measurement of one image at a time: the best validity, the fewest threads, the first seed."""
    rows = [
        (ORDER.index(row.validity), row.num_threads or 0, number)
        for number, (record, row) in enumerate(_rows(entry, runtime))
        if row.has_figures and not refused(record, runtime)
    ]
    return _rows(entry, runtime)[min(rows)[2]] if rows else None


def asked(row: Row, runtime: str) -> list[tuple[RunRecord, Measurement]]:
    """Return all measurements of a row on a runtime, those without figures too."""
    return [(record, found) for record in row.records for found in record.measurements if found.runtime == runtime]


def _rows(entry: Row, runtime: str) -> list[tuple[RunRecord, Measurement]]:
    return [
        (record, row)
        for record in entry.records
        for row in record.measurements
        if (row.runtime, row.kind, row.batch_size) == (runtime, "host", 1)
    ]


def runtimes_of(table: Table) -> list[str]:
    """List the runtimes that something was asked of, in their usual order."""
    asked = {row.runtime for record in table.records for row in record.measurements}
    return [name for name in RUNTIMES if name in asked]


def reference_runtime(table: Table) -> str | None:
    """Return the runtime by which speeds are compared; None where nothing has figures."""
    counts = {name: sum(shown(row, name) is not None for row in table.rows) for name in runtimes_of(table)}
    ranked = sorted(counts, key=lambda name: (-counts[name], PREFERRED.index(name) if name in PREFERRED else 99))
    return ranked[0] if ranked and counts[ranked[0]] else None


def ratio(row: Measurement, base: Measurement) -> Ratio | None:
    """Return a row's time over another's; None where they did not share two rounds of one session."""
    if row.session_id is None or base.session_id != row.session_id:
        return None
    numbered = [
        dict(zip((part.number for part in each.rounds), round_samples(each), strict=False)) for each in (row, base)
    ]
    common = sorted(set(numbered[0]) & set(numbered[1]))
    if len(common) < LEAST_ROUNDS:
        return None
    ours, others = ([statistics.median(each[number]) for number in common] for each in numbered)
    value = statistics.geometric_mean([one / other for one, other in zip(ours, others, strict=True)])
    return Ratio(value=value, interval=ratio_interval(ours, others))
