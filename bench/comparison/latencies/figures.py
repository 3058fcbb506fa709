"""The latency of a row on a runtime of a machine as a value: a figure, or the reason why there is none."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.comparison.latencies.sessions import Sessions, interval_over_rounds, is_outlier, relative_half_width
from bench.comparison.latencies.speeds import asked, shown, withheld
from bench.comparison.measures import Estimate, of_interval
from bench.latency.protocol import enough_queries
from bench.records.measurements import Measurement
from bench.stats.intervals import percentile

if TYPE_CHECKING:
    from bench.comparison.rows import Row

NOT_MEASURED = "not measured"

P50, P90 = 50, 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Latency in ms of a batch on a runtime of a machine.

    ``state`` is its validity (valid, noisy, or quick: not judged) or why there is no figure, with a ``reason`` if a
    measurement was tried. ``half_width`` is that of p50's 95 % interval over rounds, relative to their mean; None for a
    single round. ``p90`` is None with too few queries. ``outlier``: it is noisier than the others of its session.
    """

    machine: str
    runtime: str
    state: str = NOT_MEASURED
    reason: str | None = None
    threads: int | None = None
    batch_size: int = 1
    p50: Estimate | None = None
    p90: Estimate | None = None
    half_width: float | None = None
    queries: int = 0
    quick: bool = False
    outlier: bool = False


def latency_of(row: "Row", runtime: str, sessions: Sessions) -> Latency:
    """Return the latency of a row's network at batch 1 on its measuring machine."""
    timed = shown(row, runtime)
    if timed is not None:
        return measured(timed[1], row.measured_on, sessions)
    word, tried = withheld(row, runtime), asked(row, runtime)
    if word is not None or not tried:
        return Latency(machine=row.measured_on, runtime=runtime, state=word or NOT_MEASURED)
    # Of the runs of the network, one that was measured in vain, rather than one that could not be measured.
    attempt = min(
        tried,
        key=lambda measurement: ((measurement.kind, measurement.batch_size) != ("host", 1), measurement.status != "ok"),
    )
    state, reason = validity_of(attempt), str(attempt.reason)
    return Latency(machine=row.measured_on, runtime=runtime, state=state, reason=reason)


def measured(row: Measurement, machine: str, sessions: Sessions) -> Latency:
    """Return a measurement of a machine as a value."""
    state = validity_of(row)
    if not row.has_figures:
        return Latency(machine=machine, runtime=row.runtime, state=state, reason=str(row.reason))
    return Latency(
        machine=machine,
        runtime=row.runtime,
        state=state,
        batch_size=row.batch_size,
        threads=row.num_threads,
        p50=percentile_of(row, P50),
        p90=percentile_of(row, P90) if enough_queries(P90, row.num_queries) else None,
        half_width=relative_half_width(row),
        queries=row.num_queries,
        quick=row.protocol == "quick",
        outlier=is_outlier(row, sessions),
    )


def percentile_of(row: Measurement, percent: int) -> Estimate:
    """Return a percentile of all samples in ms, with its 95 % interval over rounds if there are several."""
    value, interval = percentile(row.samples_ms, percent), interval_over_rounds(row, percent)
    return Estimate(value) if interval is None else of_interval(value, interval)


def validity_of(row: Measurement) -> str:
    """Return the validity of a measurement: valid, noisy, invalid, quick (not judged), failed or not measured."""
    if row.status != "ok":
        return row.status
    return row.validity or row.protocol
