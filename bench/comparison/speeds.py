"""Selection of the latency measurement that is shown for a row, and ratios between rows."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
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
"""Order of preference of the reference runtime among those on which equally many rows were measured."""

ORDER: Final = ("valid", "noisy", None)
"""Validities from best to worst; None is a quick measurement, which has no validity."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """The ratio of two latencies, taken within rounds, and its 95 % interval."""

    value: float
    interval: Interval


def shown(entry: Row, runtime: str) -> tuple[RunRecord, Measurement] | None:
    """Return the measurement of a row at batch 1 on a runtime, with its record; None if there is none to show.

    It is of the row's measuring machine. Of several: the best validity, then the fewest threads, then the first seed.
    """
    # The time of a forward pass does not depend on the trained weights, so that one seed stands for all.
    rows = [
        (ORDER.index(row.validity), row.num_threads or 0, number)
        for number, (record, row) in enumerate(_rows(entry, runtime))
        if row.has_figures and not refused(record, runtime, entry.measured_on)
    ]
    return _rows(entry, runtime)[min(rows)[2]] if rows else None


def asked(row: Row, runtime: str) -> list[tuple[RunRecord, Measurement]]:
    """Return all measurements of a row on a runtime, including failed and invalid ones."""
    return [(record, found) for record, found in _measurements(row) if found.runtime == runtime]


def _rows(entry: Row, runtime: str) -> list[tuple[RunRecord, Measurement]]:
    return [
        (record, row)
        for record, row in _measurements(entry)
        if (row.runtime, row.kind, row.batch_size) == (runtime, "host", 1)
    ]


def _measurements(row: Row) -> Iterator[tuple[RunRecord, Measurement]]:
    return ((record, found) for record in row.records for found in record.on(row.measured_on).measurements)


def runtimes_of(rows: Iterable[Row]) -> list[str]:
    """Return the runtimes that were to be measured on the machines of the rows, in the order of the registry."""
    asked = {found.runtime for row in rows for _, found in _measurements(row)}
    return [name for name in RUNTIMES if name in asked]


def runtime_text(runtime: str, table: Table) -> str:
    """Return the name of a runtime, with the measuring machine if that is not the one in the table's heading."""
    return runtime if table.measured_on == table.key.machine else f"{runtime} of {table.measured_on}"


def reference_runtime(rows: Sequence[Row]) -> str | None:
    """Return the runtime on which rows are compared for speed, or None if no row was measured."""
    # The runtime that covers most rows, because ratios need both rows on the same one.
    counts = {name: sum(shown(row, name) is not None for row in rows) for name in runtimes_of(rows)}
    ranked = sorted(counts, key=lambda name: (-counts[name], PREFERRED.index(name) if name in PREFERRED else 99))
    return ranked[0] if ranked and counts[ranked[0]] else None


def ratio(row: Measurement, base: Measurement) -> Ratio | None:
    """Return the latency of ``row`` over that of ``base``, or None if they share fewer than two rounds of a session."""
    if row.session_id is None or base.session_id != row.session_id:
        return None
    # Rounds are paired by their number, as a row may lack one that failed.
    numbered = [
        dict(zip((part.number for part in each.rounds), round_samples(each), strict=False)) for each in (row, base)
    ]
    common = sorted(set(numbered[0]) & set(numbered[1]))
    if len(common) < LEAST_ROUNDS:
        return None
    ours, others = ([statistics.median(each[number]) for number in common] for each in numbered)
    # The geometric mean matches the interval of the logarithms, and inverts with the ratio.
    value = statistics.geometric_mean([one / other for one, other in zip(ours, others, strict=True)])
    return Ratio(value=value, interval=ratio_interval(ours, others))
