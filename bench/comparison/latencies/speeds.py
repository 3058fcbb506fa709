"""Latency of networks: the figure that all rows of a network show, and ratios between rows."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from bench.comparison.latencies.acceptance import admitted, refused
from bench.comparison.latencies.sessions import LEAST_ROUNDS, round_samples
from bench.records.measurements import Measurement
from bench.records.schema import RunRecord
from bench.stats.intervals import Interval, ratio_interval
from imgcls.inference.runtimes import RUNTIMES

if TYPE_CHECKING:
    from bench.comparison.rows import Row
    from bench.comparison.tables import Table  # a row holds its networks, which are defined here

PREFERRED: Final = ("onnxruntime-cuda", "pytorch-cuda", "onnxruntime-cpu", "pytorch-cpu")
"""Order of preference of the reference runtime, within those on CUDA and within the others."""

ORDER: Final = ("valid", "noisy", None)
"""Validities from best to worst; None is a quick measurement, which has no validity."""

Timed = tuple[RunRecord, Measurement]
"""A measurement with the record of the run that was measured."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """The runs of a table that have one network: the time of a forward pass does not depend on the weights.

    ``records`` are in an order of setting, seed and fold, so that the figures do not depend on that of the files.
    """

    # No slots, as cached_property needs ``__dict__``. All rows of a network share this object, so that its figures are
    # chosen once, and not by every row among the runs of all.
    id: str
    records: tuple[RunRecord, ...]

    @cached_property
    def tried(self) -> Mapping[str, Mapping[str, Sequence[Measurement]]]:
        """All measurements by machine and runtime, including failed and invalid ones."""
        by_machine: dict[str, dict[str, list[Measurement]]] = {}
        for record in self.records:
            for machine, latency in record.latency.items():
                for measurement in latency.measurements:
                    by_machine.setdefault(machine, {}).setdefault(measurement.runtime, []).append(measurement)
        return by_machine

    @cached_property
    def measured(self) -> Mapping[tuple[str, str, int | None], RunRecord]:
        """The run whose measurements are shown, by machine, runtime and number of threads.

        Of several the one with the best validity at batch 1, then the first. Runs without a figure there come last.
        """
        best: dict[tuple[str, str, int | None], tuple[int, RunRecord]] = {}
        for record in self.records:
            for machine, latency in record.latency.items():
                for measurement in latency.measurements:
                    key = machine, measurement.runtime, measurement.num_threads
                    rank = _rank(record, measurement, machine)
                    if key not in best or rank < best[key][0]:
                        best[key] = rank, record
        return {key: record for key, (_, record) in best.items()}

    @cached_property
    def figures(self) -> Mapping[str, Sequence[Timed]]:
        """The measurements that are shown, by machine: for each runtime and number of threads, those of one run."""
        by_machine: dict[str, list[Timed]] = {}
        for (machine, runtime, threads), record in self.measured.items():
            if not refused(record, runtime, machine):
                rows = [
                    measurement
                    for measurement in record.on(machine).measurements
                    if (measurement.runtime, measurement.num_threads) == (runtime, threads)
                ]
                by_machine.setdefault(machine, []).extend(
                    (record, measurement) for measurement in rows if measurement.has_figures
                )
        return by_machine


def _rank(record: RunRecord, measurement: Measurement, machine: str) -> int:
    """Return the place of a measurement in the choice of the run that is shown: lower is better."""
    if (measurement.kind, measurement.batch_size) != ("host", 1) or measurement.status != "ok":
        return len(ORDER) + 1
    if not measurement.has_figures or refused(record, measurement.runtime, machine):
        return len(ORDER)
    return ORDER.index(measurement.validity)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """The ratio of two latencies, taken within rounds, and its 95 % interval."""

    value: float
    interval: Interval


def shown(row: "Row", runtime: str) -> Timed | None:
    """Return the measurement of a row's network at batch 1 on a runtime, with the run that was measured.

    It is of the row's measuring machine. Of several: the best validity, then the fewest threads, then the first run.
    None if there is none, or if the accuracy of the row's weights in a reduced precision was refused or not checked.
    """
    if not any(admitted(record, runtime, row.measured_on) for record in row.records):
        return None
    figures = [
        timed
        for network in row.networks
        for timed in network.figures.get(row.measured_on, ())
        if (timed[1].runtime, timed[1].kind, timed[1].batch_size) == (runtime, "host", 1)
    ]
    return min(figures, key=_preference, default=None)


def _preference(timed: Timed) -> tuple[int, int]:
    return ORDER.index(timed[1].validity), timed[1].num_threads or 0


def withheld(row: "Row", runtime: str) -> Literal["refused", "not checked"] | None:
    """Return why a figure of a row's network may not stand beside the row's accuracy; None if it may or is missing."""
    if shown(row, runtime) is not None:
        return None
    # Refused takes precedence: the runtime was measured, and its figure is withheld.
    if any(refused(record, runtime, row.measured_on) for record in row.records):
        return "refused"
    checked = any(admitted(record, runtime, row.measured_on) for record in row.records)
    return (
        "not checked" if not checked and any(measurement.has_figures for measurement in asked(row, runtime)) else None
    )


def asked(row: "Row", runtime: str) -> list[Measurement]:
    """Return all measurements of a row's network on a runtime, including failed and invalid ones."""
    return [
        measurement
        for network in row.networks
        for measurement in network.tried.get(row.measured_on, {}).get(runtime, ())
    ]


def same_network(row: "Row", other: "Row") -> bool:
    """Return whether two rows have one network, hence one latency."""
    return {network.id for network in row.networks} == {network.id for network in other.networks}


def runtimes_of(rows: "Iterable[Row]") -> list[str]:
    """Return the runtimes that were to be measured on the machines of the rows, in the order of the registry."""
    asked = {name for row in rows for network in row.networks for name in network.tried.get(row.measured_on, ())}
    return [name for name in RUNTIMES if name in asked]


def runtime_text(runtime: str, table: "Table") -> str:
    """Return the name of a runtime, with the measuring machine if that is not the one in the table's heading."""
    return runtime if table.measured_on == table.key.machine else f"{runtime} of {table.measured_on}"


def reference_runtime(rows: "Sequence[Row]") -> str | None:
    """Return the runtime on which rows are compared for speed, or None if no row has a figure.

    That is one in float32 on CUDA if any row has a figure on it, else ``onnxruntime-cpu``, even if other rows have none
    there: a runtime that one disturbed measurement can replace would make tables incomparable.
    """
    runtimes = [name for name in runtimes_of(rows) if any(shown(row, name) is not None for row in rows)]
    return min(runtimes, key=_reference_order, default=None)


def _reference_order(name: str) -> tuple[bool, int]:
    on_cuda = RUNTIMES[name].cuda and RUNTIMES[name].precision == "fp32"
    return not on_cuda, PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)


def ratio(row: Measurement, base: Measurement) -> Ratio | None:
    """Return the latency of ``row`` over that of ``base``, or None if they share fewer than two rounds of a session."""
    if row.session_id is None or base.session_id != row.session_id:
        return None
    # Rounds are paired by their number, as a row may lack one that failed.
    numbered = [
        dict(zip((part.number for part in measurement.rounds), round_samples(measurement), strict=False))
        for measurement in (row, base)
    ]
    common = sorted(set(numbered[0]) & set(numbered[1]))
    if len(common) < LEAST_ROUNDS:
        return None
    ours, others = ([statistics.median(rounds[number]) for number in common] for rounds in numbered)
    # The geometric mean matches the interval of the logarithms, and inverts with the ratio.
    value = statistics.geometric_mean(
        [numerator / denominator for numerator, denominator in zip(ours, others, strict=True)]
    )
    return Ratio(value=value, interval=ratio_interval(ours, others))
