"""Figures and names as cells of a table: an accuracy never without its interval, a percentile never without n."""

import html
import math
import re
from typing import Final

from bench.latency import enough_queries
from bench.measurements import Measurement
from bench.stats import Interval, Score, percentile, wilson_interval

NO_VALUE: Final = "-"


MARKS: Final = {"VALID": "", "NOISY": " ~", "quick: 1 round": " q"}
"""What follows a figure that may be shown; an INVALID one is not a figure."""


def latency_cell(row: Measurement) -> str:
    """Give a measurement in words: p50 and p90 with their number of queries and a mark, or why there is none."""
    if row.verdict not in MARKS:
        return f"{row.verdict}: {row.reason}"
    median = percentile(row.samples_ms, 50)
    if row.batch_size > 1:
        speed = f"{1e3 * row.batch_size / median:.0f} images/s at {row.batch_size}"
        return f"{speed} (n={row.num_queries}){MARKS[row.verdict]}"
    return f"{figure(median)} / {percentile_cell(row, 90)} ms (n={row.num_queries}){MARKS[row.verdict]}"


def percentile_cell(row: Measurement, percent: int) -> str:
    """Give a percentile in ms, where there are queries enough to state it."""
    if not enough_queries(percent, row.num_queries):
        return NO_VALUE
    return figure(percentile(row.samples_ms, percent))


def figure(milliseconds: float) -> str:
    """Write ms with three digits that mean something."""
    return f"{milliseconds:.{max(0, 2 - int(math.log10(max(milliseconds, 0.01)) + 1e-9))}f}"


def text_cell(value: object) -> str:
    """Make any text safe as a cell of a markdown table: class names may hold anything."""
    escaped = html.escape(re.sub(r"\s", " ", str(value)), quote=False)
    return re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", escaped)


def accuracy_cell(accuracy: float, number: int) -> str:
    """Give an accuracy in percent with its 95 % Wilson interval."""
    interval = wilson_interval(round(accuracy * number), number)
    return f"{100 * accuracy:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def recall_cell(recall: float | None, support: int) -> str:
    """Give a recall with its interval; a class without test images has none."""
    return NO_VALUE if recall is None else accuracy_cell(recall, support)


def interval_cell(interval: Interval) -> str:
    """Give an interval of shares in per cent, within 0 and 100."""
    return f"{100 * max(interval.low, 0.0):.1f} to {100 * min(interval.high, 1.0):.1f}"


def score_cell(score: Score) -> str:
    """Give a score in per cent with its interval, and where it is a mean over seeds, their spread."""
    if not score.over_seeds:
        return f"{100 * score.value:.1f} ({interval_cell(score.interval)})"
    if score.least == score.most:
        return f"{100 * score.value:.1f} (each seed; {interval_cell(score.interval)})"
    spread = f"seeds {100 * score.least:.1f} to {100 * score.most:.1f}"
    return f"{100 * score.value:.1f} (t {interval_cell(score.interval)}; {spread})"
