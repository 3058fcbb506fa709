"""Estimates, p values and latencies as the text of cells and sentences."""

from collections.abc import Mapping
from typing import Final

from bench.comparison.latencies.figures import Latency
from bench.comparison.latencies.lines import Shown
from bench.comparison.measures import Estimate, Measure
from bench.render.documents import NO_VALUE, Name, Number, Text, Words, text

LATENCY_COLUMNS: Final = {"CUDA ms": "pytorch-cuda", "ONNX ms": "onnxruntime-cpu"}
"""The runtimes of the main table, by column; the others are in the tables below it."""

OUTLIER_MARK: Final = " ~"
"""Follows the figure of a row that is noisier than the others of its session."""

LEAST_P: Final = 0.0001


def per_cent(estimate: Estimate) -> Number:
    """Return a fraction in per cent, with its interval."""
    return _scaled(estimate, 100, ".1f")


def points(difference: Estimate) -> Number:
    """Return a difference of fractions in percentage points, with its interval."""
    return _scaled(difference, 100, "+.1f")


def nats(difference: Estimate) -> Number:
    """Return a difference of log losses in nats, with its interval."""
    return _scaled(difference, 1, "+.3f")


def _scaled(estimate: Estimate, scale: float, spec: str) -> Number:
    low, high = (None if end is None else scale * end for end in (estimate.low, estimate.high))
    return Number(scale * estimate.value, low, high, spec)


def measured(measure: Measure, estimate: Estimate | None) -> Text:
    """Return the cell of a measure: its value with the interval, the class it is of, and a mark if it is a bound."""
    if estimate is None:
        return NO_VALUE
    value = measure.shown(estimate)
    # The least and the greatest of a few seeds are no interval.
    ends = (None, None) if value.kind == "range" else (value.low, value.high)
    subject = () if value.subject is None else (Name(value.subject), ": ")
    return text(*subject, "≥ " if value.kind == "at least" else "", Number(value.value, *ends, measure.spec))


def p_value(value: float) -> Text:
    """Return a p value to four decimals."""
    return text(Number(value, spec=".4f")) if value >= LEAST_P else text("< ", Number(LEAST_P, spec="g"))


def p_words(value: float) -> str:
    """Return a p value for a sentence."""
    return f"p = {value:.2g}" if value >= LEAST_P else "p < 0.0001"


def difference_words(difference: Estimate) -> str:
    """Return a difference of fractions in percentage points, with its 95 % confidence interval."""
    number = points(difference)
    return f"{number.value:+.1f} pp (95 % CI {number.low:+.1f} to {number.high:+.1f})"


def median_text(latency: Latency) -> Text:
    """Return p50 at batch 1 with its relative half-width, or why there is no figure."""
    if latency.p50 is None:
        return text(latency.state)
    # One round has no spread, so that a quick figure cannot have a half-width.
    width = " (quick)" if latency.half_width is None else plus_minus(latency.half_width)
    return text(_threads(latency), Number(latency.p50.value), width, OUTLIER_MARK if latency.outlier else "")


def latency_text(latency: Latency) -> Text:
    """Return p50 and p90 with their half-width and number of queries, or the reason for a missing figure.

    Of a batch, throughput instead of the time, because it can be compared between batch sizes.
    """
    if latency.p50 is None:
        return text(latency.state) if latency.reason is None else text(latency.state, ": ", Name(latency.reason))
    width = "" if latency.half_width is None else plus_minus(latency.half_width)
    precision = f"{' quick' if latency.quick else width} (n={latency.queries}){OUTLIER_MARK if latency.outlier else ''}"
    if latency.batch_size > 1:
        speed = Number(1e3 * latency.batch_size / latency.p50.value, spec=".0f")
        return text(speed, f" images/s at {latency.batch_size}", precision)
    p90 = NO_VALUE if latency.p90 is None else text(Number(latency.p90.value))
    return text(_threads(latency), Number(latency.p50.value), " / ", p90, " ms", precision)


def _threads(latency: Latency) -> str:
    """Return the number of threads if it is not 1."""
    return "" if latency.threads in {None, 1} else f"{latency.threads} threads: "


def figure(shown: Shown | None) -> Words:
    """Return a time in ms with its half-width over rounds, and the mark of an outlier."""
    if shown is None:
        return NO_VALUE
    width = "" if shown.half_width is None else plus_minus(shown.half_width)
    return text(Number(shown.value), width, OUTLIER_MARK if shown.outlier else "")


def plus_minus(half_width: float) -> str:
    """Return a relative half-width in per cent."""
    return f" ±{100 * half_width:.0f} %"


def hyperparameters_text(values: Mapping[str, float]) -> str:
    """Return hyperparameters with their values to four significant digits."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
