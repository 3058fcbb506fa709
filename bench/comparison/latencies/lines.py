"""The lines of the latency table: each runtime of each network, with the run that was measured, as values."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from bench.comparison.latencies.acceptance import Acceptance, acceptance_on, check_of, reasons, refused
from bench.comparison.latencies.figures import validity_of
from bench.comparison.latencies.sessions import Sessions, is_outlier, relative_half_width
from bench.comparison.latencies.speeds import Network, ratio
from bench.comparison.measures import Estimate, of_interval
from bench.comparison.rows import Row
from bench.comparison.tables import CHECKPOINTS_SHOWN
from bench.latency.protocol import enough_queries
from bench.records.measurements import Check, Measurement
from bench.records.schema import RunRecord
from bench.stats.intervals import percentile

BASELINE: Final = "pytorch-cpu"

PERCENTS: Final = (50, 90, 95, 99)

Key = tuple[str, int | None]
"""A runtime and a number of threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A figure in ms or images/s; ``half_width`` is that of its interval over rounds, relative to their mean."""

    value: float
    half_width: float | None = None
    outlier: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How a runtime's outputs differ from the trained model's.

    Errors are relative to the largest logit, against the trained model and between batch sizes; ``flips`` is the number
    of images that get another class. ``accuracy`` is the difference in accuracy, if the images have true classes, and
    ``word`` the decision on a reduced precision, with the ``machine`` that ran the test images if it is another one.
    """

    synthetic: bool
    error: float | None = None
    batch_error: float | None = None
    flips: int = 0
    accuracy: Estimate | None = None
    word: str | None = None
    machine: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyLine:
    """A runtime of a run on a machine; figures are missing where those of another run of the network are shown.

    ``title`` names the run and ``shown_at`` the run whose figures the network shows, if it is another one. Times are in
    ms: percentiles by per cent, on the device alone, from file to label with the shares of the parts, and of the cold
    start (import, load, first inference). ``over_baseline`` is the time over that of PyTorch on the CPU. ``throughput``
    is the highest in images/s, at a batch size. ``remarks`` are (what was measured, its validity, the reason).
    """

    title: str
    runtime: str
    precision: str | None
    threads: int | None
    state: str
    reason: str | None
    shown_at: str | None
    percentiles: dict[int, Shown]
    p90_upper_ms: float | None = None
    over_baseline: Estimate | None = None
    device: Shown | None = None
    throughput: tuple[Shown, int] | None = None
    whole: Shown | None = None
    shares: tuple[float, ...] = ()
    cold_start_ms: tuple[float, ...] = ()
    peak_memory_bytes: int | None = None
    size_bytes: int | None = None
    parity: Parity | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """Why figures of a runtime are marked, missing or refused: (what was measured, its validity, the reason)."""

    title: str
    runtime: str
    figures: tuple[tuple[str, str, str], ...] = ()
    refused: Estimate | None = None
    judged_on: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """A session in which most rows are noisy, and its machine if several have measured."""

    rows: int
    noisy: int
    half_width: float
    machine: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyLines:
    """The lines of the first ``shown`` of ``total`` runs that one machine has measured, each as often as machines.

    ``own`` is the machine of the lines that name none, if others are named.
    """

    lines: tuple[LatencyLine, ...] = ()
    remarks: tuple[Remark, ...] = ()
    noise: tuple[Noise, ...] = ()
    shown: int = 0
    total: int = 0
    own: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """A run as one machine has measured it; the title names a machine that is not the run's own."""

    title: str
    record: RunRecord
    machine: str
    network: Network

    @property
    def rows(self) -> list[Measurement]:
        """The measurements of the runtimes that have a line."""
        every = self.record.on(self.machine).measurements
        keys = {key for key in map(_key, every) if self.has_figures(key) or self.has_check(key)}
        return [row for row in every if _key(row) in keys]

    def measured(self, key: Key) -> RunRecord:
        """Return the run whose figures all rows of the network show."""
        return self.network.measured[self.machine, *key]

    def has_figures(self, key: Key) -> bool:
        return self.measured(key) is self.record

    def has_check(self, key: Key) -> bool:
        """Return whether a runtime was compared with other weights than those of the run that has the figures."""
        check = check_of(self.record, key[0], self.machine)
        return check is not None and check.parity is not None and self.measured(key).train_id != self.record.train_id


def latency_lines(rows: Sequence[Row], sessions: Sessions) -> LatencyLines:
    """Return a line for each runtime of the first networks, and remarks.

    The figures are those that all rows of the network show. Other runs have a line if they were compared with their
    weights, without figures: a network has one latency.
    """
    # A line needs percentiles of up to a thousand samples per batch size, which takes long for thousands of runs.
    every = [view for row in rows for record in row.records for view in _by_machine(row, record) if view.rows]
    views = every[:CHECKPOINTS_SHOWN]
    titles = {record.run_id: _title(row, record) for row in rows for record in row.records}
    several = len({view.machine for view in views}) > 1
    machines = {row.session_id: view.machine for view in views for row in view.rows if several}
    return LatencyLines(
        lines=tuple(
            _line(view, key, sessions, shown_at=None if view.has_figures(key) else titles[view.measured(key).run_id])
            for view in views
            for key in dict.fromkeys(map(_key, view.rows))
        ),
        remarks=tuple(remark for view in views for remark in _remarks(view, sessions)),
        noise=tuple(
            Noise(
                rows=session.rows, noisy=session.noisy, half_width=session.half_width, machine=machines.get(session_id)
            )
            for session_id, session in sessions.items()
            if session.mostly_noisy
        ),
        shown=len(views),
        total=len(every),
        own=views[0].record.environment.machine if several else None,
    )


def _by_machine(row: Row, record: RunRecord) -> list[_View]:
    # A failed run has no network. A figure without its machine would be compared with those of another.
    return [
        _View(
            title=_title(row, record) + ("" if machine == record.environment.machine else f", on {machine}"),
            record=record,
            machine=machine,
            network=network,
        )
        for network, machine in product(row.networks, record.latency)
        if network.id == record.network
    ]


def _title(row: Row, record: RunRecord) -> str:
    fold = record.config.split.fold
    return f"{row.name}, seed {record.config.seed}" + ("" if fold is None else f", fold {fold}")


def _key(row: Measurement) -> Key:
    return row.runtime, row.num_threads


def _find(rows: Sequence[Measurement], kind: str) -> Measurement | None:
    """Return the row at batch 1 whose figures may be shown, if there is one."""
    return next((row for row in rows if row.kind == kind and row.batch_size == 1 and row.has_figures), None)


def _line(view: _View, key: Key, sessions: Sessions, *, shown_at: str | None) -> LatencyLine:
    rows = [row for row in view.rows if _key(row) == key]
    first, check = rows[0], check_of(view.record, key[0], view.machine)
    lost = refused(view.record, first.runtime, view.machine)
    line = LatencyLine(
        title=view.title,
        runtime=first.runtime,
        precision=first.precision or (check.precision if check else None),
        threads=first.num_threads,
        state="refused" if lost else validity_of(first),
        reason=None if lost or first.status == "ok" else str(first.reason),
        shown_at=None if lost else shown_at,
        percentiles={},
    )
    if check is not None and check.status == "ok":
        line = _checked(line, view, check)
    # The speed of a model that lost accuracy must not be compared with that of the others.
    return line if lost or shown_at is not None else _timed(line, view, rows, sessions)


def _checked(line: LatencyLine, view: _View, check: Check) -> LatencyLine:
    cold = (check.import_ms, check.load_ms, check.first_ms)
    return replace(
        line,
        cold_start_ms=tuple(value for value in cold if value is not None),
        peak_memory_bytes=check.peak_memory_bytes or None,
        size_bytes=check.size_bytes or None,
        parity=_parity(view, check),
    )


def _timed(line: LatencyLine, view: _View, rows: Sequence[Measurement], sessions: Sessions) -> LatencyLine:
    host, device, whole = (_find(rows, kind) for kind in ("host", "device", "file"))
    if host is not None:
        line = replace(
            line,
            percentiles={
                percent: _figure(host, percent, sessions)
                for percent in PERCENTS
                if enough_queries(percent, host.num_queries)
            },
            p90_upper_ms=host.p90_upper_ms,
            over_baseline=_over_baseline(view, host),
        )
    # Means, as medians of parts do not add up to the median of the whole.
    parts = [] if whole is None else [statistics.fmean(samples) for samples in whole.parts_ms.values()]
    return replace(
        line,
        device=None if device is None else _figure(device, 50, sessions),
        throughput=_throughput(rows, sessions),
        whole=None if whole is None else _figure(whole, 50, sessions),
        shares=tuple(part / sum(parts) for part in parts),
    )


def _figure(row: Measurement, percent: int, sessions: Sessions) -> Shown:
    value, width = percentile(row.samples_ms, percent), relative_half_width(row, percent)
    return Shown(value=value, half_width=width, outlier=is_outlier(row, sessions))


def _over_baseline(view: _View, row: Measurement) -> Estimate | None:
    """Return the row's time over the baseline's, from ratios within the rounds of one session."""
    base = _find([other for other in view.rows if _key(other) == (BASELINE, row.num_threads)], "host")
    # The ratio of two pooled medians would depend on how many queries each round happened to have.
    within = None if base is None or base is row else ratio(row, base)
    return None if within is None else of_interval(within.value, within.interval)


def _throughput(rows: Sequence[Measurement], sessions: Sessions) -> tuple[Shown, int] | None:
    """Return the highest throughput in images/s over all batch sizes, and that batch size."""
    speeds = [
        (1e3 * row.batch_size / percentile(row.samples_ms, 50), row)
        for row in rows
        if row.kind == "host" and row.has_figures
    ]
    if not speeds:
        return None
    speed, row = max(speeds, key=lambda entry: entry[0])
    return Shown(value=speed, outlier=is_outlier(row, sessions)), row.batch_size


def _parity(view: _View, check: Check) -> Parity | None:
    synthetic = check.inputs == "synthetic"
    if check.parity is None:
        return Parity(synthetic=True) if synthetic else None
    accepted, reduced = acceptance_on(view.record, check.runtime, view.machine), check.precision != "fp32"
    return Parity(
        synthetic=synthetic,
        error=check.parity.max_rel_logit_error,
        batch_error=check.parity.batch_rel_error,
        flips=len(check.parity.flips),
        # The difference in accuracy is a figure of the other machine, and has its place in that machine's line.
        accuracy=None if synthetic else _difference(accepted),
        word=accepted.word if reduced else None,
        machine=accepted.machine,
    )


def _difference(accepted: Acceptance) -> Estimate | None:
    if accepted.interval is None or accepted.difference is None:
        return None
    return of_interval(accepted.difference, accepted.interval)


def _remarks(view: _View, sessions: Sessions) -> list[Remark]:
    """Return a remark for each runtime whose figures are marked, missing or refused."""
    remarks = [
        Remark(title=view.title, runtime=runtime, refused=_difference(decision), judged_on=decision.machine)
        for runtime, decision in reasons(view.record, view.machine)
    ]
    spoken: dict[Key, list[tuple[str, str, str]]] = {}
    for row in view.rows:
        # A failed first row already shows its reason in the table; a larger batch has no line of its own there.
        batch_failed = row.status == "failed" and (row.kind, row.batch_size) != ("host", 1)
        if view.has_figures(_key(row)) and (is_outlier(row, sessions) or row.validity == "invalid" or batch_failed):
            what = {"host": f"batch {row.batch_size}", "file": "from a file"}.get(row.kind, f"{row.kind} alone")
            spoken.setdefault(_key(row), []).append((what, validity_of(row), str(row.reason)))
    return remarks + [
        Remark(title=view.title, runtime=runtime, figures=tuple(figures)) for (runtime, _), figures in spoken.items()
    ]
