"""The latency table: each runtime of each network, with the run that was measured, its validity, start and parity."""

from typing import Final

from bench.comparison.latencies.lines import BASELINE, LatencyLine, Noise, Parity, Remark
from bench.comparison.results.values import TableResult
from bench.leaderboard.cells import OUTLIER_MARK, figure, points
from bench.render.documents import NO_VALUE, Block, Name, Number, Text, Words, bullets, joined, table, text

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
    f"Time over {BASELINE}'s (95 %)",
    "Device only p50, ms",
    "Best images/s (batch)",
    "File to label p50, ms (decode, resize, normalise, infer)",
    "Import + load + first, ms",
    "Peak memory, MiB",
    "File, MB",
    "Largest logit error (batch 1 against 32)",
    "Flips",
    "Accuracy against trained, pp (95 % CI)",
)


def latency_table(results: TableResult) -> list[Block]:
    """Return a line for each runtime of the first networks, and remarks; empty if nothing was measured."""
    latency = results.latency
    if not latency.lines:
        return []
    remarks: list[Words] = []
    if latency.own is not None:
        remarks.append(f"Lines without a machine are of {latency.own}.")
    if latency.total > latency.shown:
        remarks.append(
            text(f"The first {latency.shown} of {latency.total} runs; ", Name("leaderboard.csv"), " has all.")
        )
    remarks += [*map(_noise, latency.noise), *map(_remark, latency.remarks)]
    return [*table(COLUMNS, list(map(_line, latency.lines)), left=3, keep=3), *bullets(remarks)]


def _noise(session: Noise) -> str:
    machine = "" if session.machine is None else f" on {session.machine}"
    return (
        f"{session.noisy} of {session.rows} rows of one session{machine} are noisy, as the machine's speed varies "
        f'(median half-width of p50 ±{100 * session.half_width:.0f} %). Compare ratios within rounds; "~" marks rows '
        "with at least twice that half-width."
    )


def _remark(remark: Remark) -> Text:
    if remark.refused is not None:
        change = points(remark.refused)
        by = "" if remark.judged_on is None else f", on the test images on {remark.judged_on}"
        words = f"accuracy {change.value:+.1f} pp (95 % CI {change.low:+.1f} to {change.high:+.1f}){by}"
        return text("Refused: ", Name(remark.title), f" on {remark.runtime}: {words}")
    figures = [text(f"{what} {state} (", Name(reason), ")") for what, state, reason in remark.figures]
    return text(Name(remark.title), f" on {remark.runtime}: ", joined(figures, "; "))


def _line(line: LatencyLine) -> list[Words]:
    p50, p90, *tail = (line.percentiles.get(percent) for percent in (50, 90, 95, 99))
    ratio = line.over_baseline
    return [
        Name(line.title),
        line.runtime,
        line.precision or NO_VALUE,
        str(line.threads or NO_VALUE),
        text(line.state, *(() if line.reason is None else (": ", Name(line.reason))))
        if line.shown_at is None
        else text("see ", Name(line.shown_at)),
        figure(p50),
        figure(p90),
        *(NO_VALUE if shown is None else Number(shown.value) for shown in tail),
        NO_VALUE if line.p90_upper_ms is None else Number(line.p90_upper_ms),
        NO_VALUE if ratio is None else Number(ratio.value, ratio.low, ratio.high, ".3f"),
        NO_VALUE if line.device is None else text(Number(line.device.value), _mark(outlier=line.device.outlier)),
        _throughput(line),
        NO_VALUE
        if line.whole is None
        else text(
            Number(line.whole.value),
            f" ({', '.join(f'{100 * share:.0f} %' for share in line.shares)})",
            _mark(outlier=line.whole.outlier),
        ),
        joined([Number(value, spec=".0f") for value in line.cold_start_ms], " + ") or NO_VALUE,
        NO_VALUE if line.peak_memory_bytes is None else Number(line.peak_memory_bytes / 2**20, spec=".0f"),
        NO_VALUE if line.size_bytes is None else Number(line.size_bytes / 1e6, spec=".1f"),
        *_parity(line.parity),
    ]


def _mark(*, outlier: bool) -> str:
    return OUTLIER_MARK if outlier else ""


def _throughput(line: LatencyLine) -> Words:
    if line.throughput is None:
        return NO_VALUE
    speed, batch = line.throughput
    return text(Number(speed.value, spec=".0f"), f" ({batch})", _mark(outlier=speed.outlier))


def _parity(parity: Parity | None) -> list[Words]:
    """Return the cells of the comparison with the trained model."""
    if parity is None:
        return [NO_VALUE] * 3
    if parity.error is None:
        return ["not checked", NO_VALUE, NO_VALUE]
    synthetic = ", synthetic" if parity.synthetic else ""
    between = "" if parity.batch_error is None else f" ({parity.batch_error:.1e})"
    errors = text(Number(parity.error, spec=".1e"), between, synthetic)
    return [errors, text(Number(parity.flips, spec="d"), synthetic), _against(parity)]


def _against(parity: Parity) -> Words:
    if parity.synthetic:
        by = f" on {parity.machine}" if parity.machine else ""
        return NO_VALUE if parity.word is None else f"{parity.word}{by}"
    if parity.accuracy is None:
        return NO_VALUE
    return text(points(parity.accuracy), "" if parity.word is None else f", {parity.word}")
