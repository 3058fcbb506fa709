"""The latency table: each runtime of each network, with the run that was measured, its validity, start and parity."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from bench.comparison.acceptance import acceptance_on, check_of, reasons, refused
from bench.comparison.analysis import CHECKPOINTS_SHOWN
from bench.comparison.sessions import Session, Sessions, is_outlier, relative_half_width
from bench.comparison.speeds import Network, ratio
from bench.comparison.tables import Row
from bench.leaderboard.cells import NO_VALUE, OUTLIER_MARK, code, figure, percentile_cell, table, validity_word
from bench.records.measurements import Check, Measurement
from bench.records.schema import RunRecord
from bench.stats.intervals import percentile
from imgcls.evaluation.results import Parity

BASELINE: Final = "pytorch-cpu"

REFUSED: Final = "refused"

OVER: Final = f"Time over {BASELINE}'s (95 %)"

DEVICE: Final = "Device only p50, ms"

BEST: Final = "Best images/s (batch)"

WHOLE: Final = "File to label p50, ms (decode, resize, normalise, infer)"

AGAINST: Final = "Accuracy against trained, pp (95 % CI)"

ERRORS: Final = "Largest logit error (batch 1 against 32)"

COLUMNS: Final = (
    "Model",
    "Runtime",
    "Precision",
    "Threads",
    "Validity",
    "p50, ms",
    "p90, ms",
    "p95, ms",
    "p99, ms",
    "p90 at most, ms",
    OVER,
    DEVICE,
    BEST,
    WHOLE,
    "Import + load + first, ms",
    "Peak memory, MiB",
    "File, MB",
    ERRORS,
    "Flips",
    AGAINST,
)


_Key = tuple[str, int | None]
"""A runtime and a number of threads."""


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

    def measured(self, key: _Key) -> RunRecord:
        """Return the run whose figures all rows of the network show."""
        return self.network.measured[self.machine, *key]

    def has_figures(self, key: _Key) -> bool:
        return self.measured(key) is self.record

    def has_check(self, key: _Key) -> bool:
        """Return whether a runtime was compared with other weights than those of the run that has the figures."""
        check = check_of(self.record, key[0], self.machine)
        return check is not None and check.parity is not None and self.measured(key).train_id != self.record.train_id


def latency_table(rows: Sequence[Row], sessions: Sessions) -> list[str]:
    """Return a line for each runtime of the first networks, and remarks; empty if nothing was measured.

    The figures are those that all rows of the network show. Other runs have a line if they were compared with their
    weights, without figures: a network has one latency.
    """
    # A line needs percentiles of up to a thousand samples per batch size, which takes long for thousands of runs.
    every = [view for row in rows for record in row.records for view in _by_machine(row, record) if view.rows]
    views = every[:CHECKPOINTS_SHOWN]
    titles = {record.run_id: _title(row, record) for row in rows for record in row.records}
    lines = [line for view in views for line in _rows(view, sessions, titles)]
    if not lines:
        return []
    cells = [[line[name] for name in COLUMNS] for line in lines]
    remarks = [remark for view in views for remark in _remarks(view, sessions)]
    omitted = (
        [f"- The first {len(views)} of {len(every)} runs; `leaderboard.csv` has all."]
        if len(every) > len(views)
        else []
    )
    own = [f"- Lines without a machine are of {views[0].record.environment.machine}."] if _several(views) else []
    markdown = [*table(COLUMNS, cells, left=3, keep=3), "", *own, *omitted]
    return [*markdown, *_machine_noise(sessions, views), *remarks]


def _by_machine(row: Row, record: RunRecord) -> list[_View]:
    views = []
    # A failed run has no network.
    for network, machine in product(
        [network for network in row.networks if network.id == record.network], record.latency
    ):
        # A figure without its machine would be compared with those of another.
        elsewhere = "" if machine == record.environment.machine else f", on {machine}"
        title = code(_title(row, record) + elsewhere)
        views.append(_View(title=title, record=record, machine=machine, network=network))
    return views


def _title(row: Row, record: RunRecord) -> str:
    fold = record.config.split.fold
    return f"{row.name}, seed {record.config.seed}" + ("" if fold is None else f", fold {fold}")


def _several(views: Sequence[_View]) -> bool:
    return len({view.machine for view in views}) > 1


def _machine_noise(sessions: Sessions, views: Sequence[_View]) -> list[str]:
    """Return a sentence for each session in which most rows are noisy, with its machine if there are several."""
    machines = {row.session_id: f" on {view.machine}" for view in views for row in view.rows if _several(views)}
    return [
        f"- {_noise(session, machines.get(name, ''))}" for name, session in sessions.items() if session.mostly_noisy
    ]


def _noise(session: Session, machine: str) -> str:
    return (
        f"{session.noisy} of {session.rows} rows of one session{machine} are noisy, as the machine's speed varies "
        f'(median half-width of p50 ±{100 * session.half_width:.0f} %). Compare ratios within rounds; "~" marks rows '
        "with at least twice that half-width."
    )


def _key(row: Measurement) -> _Key:
    return row.runtime, row.num_threads


def _rows(view: _View, sessions: Sessions, titles: Mapping[str, str]) -> list[dict[str, str]]:
    lines = []
    for key in dict.fromkeys(map(_key, view.rows)):
        line = _row(view, [row for row in view.rows if _key(row) == key], sessions)
        if not view.has_figures(key) and line["Validity"] != REFUSED:
            line["Validity"] = f"see {code(titles[view.measured(key).run_id])}"
        lines.append(line)
    return lines


def _find(rows: Sequence[Measurement], kind: str) -> Measurement | None:
    """Return the row at batch 1 whose figures may be shown, if there is one."""
    return next((row for row in rows if row.kind == kind and row.batch_size == 1 and row.has_figures), None)


def _row(view: _View, rows: list[Measurement], sessions: Sessions) -> dict[str, str]:
    first = rows[0]
    check = check_of(view.record, first.runtime, view.machine)
    line = dict.fromkeys(COLUMNS, NO_VALUE) | {
        "Model": view.title,
        "Runtime": first.runtime,
        "Precision": first.precision or (check.precision if check else NO_VALUE),
        "Threads": str(first.num_threads or NO_VALUE),
        "Validity": _validity(view, first),
    }
    if check is not None and check.status == "ok":
        line |= _cold_start(check) | _compared(view, check)
    # The speed of a model that lost accuracy must not be compared with that of the others.
    if refused(view.record, first.runtime, view.machine) or not view.has_figures(_key(first)):
        return line
    if host := _find(rows, "host"):
        line |= _percentiles(host, sessions) | {OVER: _over_baseline(view, host)}
    if device := _find(rows, "device"):
        line[DEVICE] = figure(percentile(device.samples_ms, 50)) + _mark(device, sessions)
    line[BEST] = _throughput(rows, sessions)
    if whole := _find(rows, "file"):
        line[WHOLE] = _whole_way(whole, sessions)
    return line


def _validity(view: _View, row: Measurement) -> str:
    if refused(view.record, row.runtime, view.machine):
        return REFUSED
    return validity_word(row) if row.status == "ok" else f"{row.status}: {code(row.reason)}"


def _mark(row: Measurement, sessions: Sessions) -> str:
    return OUTLIER_MARK if is_outlier(row, sessions) else ""


def _percentiles(row: Measurement, sessions: Sessions) -> dict[str, str]:
    return {
        "p50, ms": _with_half_width(row, 50) + _mark(row, sessions),
        "p90, ms": _with_half_width(row, 90) + _mark(row, sessions),
        "p95, ms": percentile_cell(row, 95),
        "p99, ms": percentile_cell(row, 99),
        "p90 at most, ms": NO_VALUE if row.p90_upper_ms is None else figure(row.p90_upper_ms),
    }


def _with_half_width(row: Measurement, percent: int) -> str:
    """Return a percentile of all samples, with the relative half-width over rounds."""
    text, width = percentile_cell(row, percent), relative_half_width(row, percent)
    return text if text == NO_VALUE or width is None else f"{text} ±{100 * width:.0f} %"


def _over_baseline(view: _View, row: Measurement) -> str:
    """Return the row's time over the baseline's, from ratios within the rounds of one session."""
    base = _find([other for other in view.rows if _key(other) == (BASELINE, row.num_threads)], "host")
    # The ratio of two pooled medians would depend on how many queries each round happened to have.
    time_ratio = None if base is None or base is row else ratio(row, base)
    return (
        NO_VALUE
        if time_ratio is None
        else f"{time_ratio.value:.3f} ({time_ratio.interval.low:.3f} to {time_ratio.interval.high:.3f})"
    )


def _throughput(rows: Sequence[Measurement], sessions: Sessions) -> str:
    """Return the highest throughput in images/s over all batch sizes, and that batch size."""
    speeds = [
        (1e3 * row.batch_size / percentile(row.samples_ms, 50), row)
        for row in rows
        if row.kind == "host" and row.has_figures
    ]
    if not speeds:
        return NO_VALUE
    speed, row = max(speeds, key=lambda entry: entry[0])
    return f"{speed:.0f} ({row.batch_size}){_mark(row, sessions)}"


def _whole_way(row: Measurement, sessions: Sessions) -> str:
    # Means, as medians of parts do not add up to the median of the whole.
    parts = [statistics.fmean(samples) for samples in row.parts_ms.values()]
    shares = ", ".join(f"{100 * part / sum(parts):.0f} %" for part in parts)
    return f"{figure(percentile(row.samples_ms, 50))} ({shares}){_mark(row, sessions)}"


def _cold_start(check: Check) -> dict[str, str]:
    cold = [value for value in (check.import_ms, check.load_ms, check.first_ms) if value is not None]
    return {
        "Import + load + first, ms": " + ".join(f"{value:.0f}" for value in cold) or NO_VALUE,
        "Peak memory, MiB": f"{check.peak_memory_bytes / 2**20:.0f}" if check.peak_memory_bytes else NO_VALUE,
        "File, MB": f"{check.size_bytes / 1e6:.1f}" if check.size_bytes else NO_VALUE,
    }


def _compared(view: _View, check: Check) -> dict[str, str]:
    """Return the cells of the comparison with the trained model."""
    synthetic = ", synthetic" if check.inputs == "synthetic" else ""
    if check.parity is None:
        return {ERRORS: "not checked"} if synthetic else {}
    cells = {ERRORS: _errors(check.parity) + synthetic, "Flips": f"{len(check.parity.flips)}{synthetic}"}
    accepted, reduced = acceptance_on(view.record, check.runtime, view.machine), check.precision != "fp32"
    if synthetic:
        # The difference in accuracy is a figure of the other machine, and has its place in that machine's line.
        by = f" on {accepted.machine}" if accepted.machine else ""
        return cells | ({AGAINST: f"{accepted.word}{by}"} if reduced else {})
    if accepted.interval is None or accepted.difference is None:
        return cells
    low, high = 100 * accepted.interval.low, 100 * accepted.interval.high
    word = f", {accepted.word}" if reduced else ""
    return cells | {AGAINST: f"{100 * accepted.difference:+.1f} ({low:+.1f} to {high:+.1f}){word}"}


def _errors(parity: Parity) -> str:
    """Return the largest errors relative to the largest logit: against the trained model, and between batch sizes."""
    between = "" if parity.batch_rel_error is None else f" ({parity.batch_rel_error:.1e})"
    return f"{parity.max_rel_logit_error:.1e}{between}"


def _remarks(view: _View, sessions: Sessions) -> list[str]:
    """Return a line per runtime with the reasons why figures are marked, missing or refused."""
    lines = [f"- Refused: {view.title} on {line}" for line in reasons(view.record, view.machine)]
    spoken: dict[tuple[str, int | None], list[str]] = {}
    for row in view.rows:
        if not view.has_figures(_key(row)):
            continue
        # A failed first row already shows its reason in the table; a larger batch has no line of its own there.
        batch_failed = row.status == "failed" and (row.kind, row.batch_size) != ("host", 1)
        if is_outlier(row, sessions) or row.validity == "invalid" or batch_failed:
            what = f"batch {row.batch_size}" if row.kind == "host" else f"{row.kind} alone"
            what = "from a file" if row.kind == "file" else what
            spoken.setdefault(_key(row), []).append(f"{what} {validity_word(row)} ({code(row.reason)})")
    lines += [f"- {view.title} on {runtime}: {'; '.join(said)}" for (runtime, _), said in spoken.items()]
    return lines
