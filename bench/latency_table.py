"""The latency table of a leaderboard: every runtime of every model, with its verdict, cold start and parity."""

import statistics
from collections.abc import Sequence
from typing import Final

from bench.acceptance import acceptance, check_of, reasons, refused
from bench.boards import model_name
from bench.cells import MARKS, NO_VALUE, figure, percentile_cell, text_cell
from bench.measurements import Check, Measurement
from bench.records import RunRecord
from bench.speeds import interval_over_rounds, ratio
from bench.stats import percentile
from imgcls.results import Parity

BASELINE: Final = "pytorch-cpu"
OVER: Final = f"Time over {BASELINE}'s (95 %)"
DEVICE: Final = "Device only p50, ms"
BEST: Final = "Best images/s (batch)"
WHOLE: Final = "File to label p50, ms (decode, resize, normalise, infer)"
AGAINST: Final = "Accuracy against trained, points (95 %)"
ERRORS: Final = "Largest logit error (batch 1 against 32)"
COLUMNS: Final = (
    "Model",
    "Runtime",
    "Precision",
    "Threads",
    "Verdict",
    "p50, ms (95 %)",
    "p90, ms (95 %)",
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


def latency_table(table: Sequence[RunRecord]) -> list[str]:
    """Give the table as markdown lines; empty where nothing was measured."""
    rows = [row for record in table for row in _rows(record)]
    if not rows:
        return []
    shown = [name for name in COLUMNS if {row[name] for row in rows} - {NO_VALUE}]
    lines = [f"| {' | '.join(shown)} |", "|" + "---|" * 3 + "--:|" * (len(shown) - 3)]
    lines += [f"| {' | '.join(row[name] for name in shown)} |" for row in rows]
    remarks = [remark for record in table for remark in _remarks(record)]
    return [*lines, "", *dict.fromkeys(remarks)]


def _key(row: Measurement) -> tuple[str, int | None]:
    return row.runtime, row.num_threads


def _rows(record: RunRecord) -> list[dict[str, str]]:
    keys = dict.fromkeys(_key(row) for row in record.measurements)
    return [_row(record, [row for row in record.measurements if _key(row) == key]) for key in keys]


def _find(rows: Sequence[Measurement], kind: str) -> Measurement | None:
    """Find a row at batch 1 that has figures to show."""
    return next((row for row in rows if row.kind == kind and row.batch_size == 1 and row.verdict in MARKS), None)


def _row(record: RunRecord, rows: list[Measurement]) -> dict[str, str]:
    first = rows[0]
    check = check_of(record, first.runtime)
    line = dict.fromkeys(COLUMNS, NO_VALUE) | {
        "Model": text_cell(f"{model_name(record)}, seed {record.config.seed}"),
        "Runtime": first.runtime,
        "Precision": first.precision or (check.precision if check else NO_VALUE),
        "Threads": str(first.num_threads or NO_VALUE),
        "Verdict": text_cell(_verdict(record, first)),
    }
    line |= _checked(check)
    if refused(record, first.runtime):
        return line
    if host := _find(rows, "host"):
        line |= _percentiles(host) | {OVER: _over_baseline(record, host)}
    if device := _find(rows, "device"):
        line[DEVICE] = figure(percentile(device.samples_ms, 50)) + MARKS[device.verdict]
    line[BEST] = _throughput(rows)
    if whole := _find(rows, "file"):
        line[WHOLE] = _whole_way(whole)
    return line


def _verdict(record: RunRecord, row: Measurement) -> str:
    if refused(record, row.runtime):
        return "refused"
    if row.verdict in {"failed", "not measured"}:
        return f"{row.verdict}: {row.reason}"
    return row.verdict


def _percentiles(row: Measurement) -> dict[str, str]:
    mark = MARKS[row.verdict]
    return {
        "p50, ms (95 %)": _with_interval(row, 50) + mark,
        "p90, ms (95 %)": _with_interval(row, 90) + mark,
        "p95, ms": percentile_cell(row, 95),
        "p99, ms": percentile_cell(row, 99),
        "p90 at most, ms": NO_VALUE if row.p90_upper_ms is None else figure(row.p90_upper_ms),
    }


def _with_interval(row: Measurement, percent: int) -> str:
    """Give a percentile of all samples, with the t interval of the rounds' own."""
    text, interval = percentile_cell(row, percent), interval_over_rounds(row, percent)
    if text == NO_VALUE or interval is None:
        return text
    return f"{text} ({figure(interval.low)} to {figure(interval.high)})"


def _over_baseline(record: RunRecord, row: Measurement) -> str:
    """Give the row's time over the baseline's, each ratio taken within a round of one and the same measurement."""
    base = _find([other for other in record.measurements if _key(other) == (BASELINE, row.num_threads)], "host")
    found = None if base is None or base is row else ratio(row, base)
    return NO_VALUE if found is None else f"{found.value:.3f} ({found.interval.low:.3f} to {found.interval.high:.3f})"


def _throughput(rows: Sequence[Measurement]) -> str:
    """Give the most images a second of any batch size, and that size."""
    speeds = [
        (1e3 * row.batch_size / percentile(row.samples_ms, 50), row)
        for row in rows
        if row.kind == "host" and row.verdict in MARKS
    ]
    if not speeds:
        return NO_VALUE
    speed, row = max(speeds, key=lambda found: found[0])
    return f"{speed:.0f} ({row.batch_size}){MARKS[row.verdict]}"


def _whole_way(row: Measurement) -> str:
    parts = [statistics.fmean(samples) for samples in row.parts_ms.values()]
    shares = ", ".join(f"{100 * part / sum(parts):.0f} %" for part in parts)
    return f"{figure(percentile(row.samples_ms, 50))} ({shares}){MARKS[row.verdict]}"


def _checked(check: Check | None) -> dict[str, str]:
    if check is None or check.status != "ok":
        return {}
    cold = [value for value in (check.import_ms, check.load_ms, check.first_ms) if value is not None]
    found = {
        "Import + load + first, ms": " + ".join(f"{value:.0f}" for value in cold) or NO_VALUE,
        "Peak memory, MiB": f"{check.peak_memory_bytes / 2**20:.0f}" if check.peak_memory_bytes else NO_VALUE,
        "File, MB": f"{check.size_bytes / 1e6:.1f}" if check.size_bytes else NO_VALUE,
    }
    if check.parity is None:
        return found
    accepted = acceptance(check)
    found |= {ERRORS: _errors(check.parity), "Flips": str(len(check.parity.flips))}
    if accepted.interval is None or accepted.difference is None:
        return found
    low, high = 100 * accepted.interval.low, 100 * accepted.interval.high
    word = f", {accepted.word}" if check.precision != "fp32" else ""
    return found | {AGAINST: f"{100 * accepted.difference:+.1f} ({low:+.1f} to {high:+.1f}){word}"}


def _errors(parity: Parity) -> str:
    """Return both errors relative to the largest logit: against the trained model, and between batch sizes."""
    between = "" if parity.batch_rel_error is None else f" ({parity.batch_rel_error:.1e})"
    return f"{parity.max_rel_logit_error:.1e}{between}"


def _remarks(record: RunRecord) -> list[str]:
    """Say why figures are marked, left out or refused, a line a runtime."""
    name = text_cell(f"{model_name(record)}, seed {record.config.seed}")
    lines = [f"- Refused: {name} on {text_cell(line)}" for line in reasons(record)]
    spoken: dict[tuple[str, int | None], list[str]] = {}
    for row in record.measurements:
        if row.verdict in {"NOISY", "INVALID"} or (
            row.verdict == "failed" and (row.kind, row.batch_size) != ("host", 1)
        ):
            what = f"batch {row.batch_size}" if row.kind == "host" else f"{row.kind} alone"
            what = "from a file" if row.kind == "file" else what
            spoken.setdefault(_key(row), []).append(f"{what} {row.verdict} ({row.reason})")
    lines += [f"- {name} on {runtime}: {text_cell('; '.join(said))}" for (runtime, _), said in spoken.items()]
    return lines
