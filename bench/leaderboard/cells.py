"""Figures and names as cells of a table: an accuracy never without its interval, a percentile never without n."""

import html
import math
import re
from collections.abc import Mapping
from typing import Final

from bench.comparison.sessions import Sessions, is_outlier, relative_half_width
from bench.latency.protocol import enough_queries
from bench.records.measurements import Measurement
from bench.stats.intervals import Interval, Score, percentile, wilson_interval

NO_VALUE: Final = "-"

OUTLIER_MARK: Final = " ~"
"""Follows a figure of a row that is worse than its session."""


def latency_cell(row: Measurement, sessions: Sessions) -> str:
    """Return p50 and p90 with their half-width and number of queries, or the reason why there is no figure."""
    if not row.has_figures:
        return f"{validity_word(row)}: {row.reason}"
    median = percentile(row.samples_ms, 50)
    if row.batch_size > 1:
        return f"{1e3 * row.batch_size / median:.0f} images/s at {row.batch_size} {precision_text(row, sessions)}"
    return f"{figure(median)} / {percentile_cell(row, 90)} ms {precision_text(row, sessions)}"


def precision_text(row: Measurement, sessions: Sessions) -> str:
    """Return how precise a figure is: its relative half-width and queries, that it is a quick one, or a mark."""
    width = relative_half_width(row)
    known = "quick" if row.protocol == "quick" else "" if width is None else f"±{100 * width:.0f} %"
    mark = OUTLIER_MARK if is_outlier(row, sessions) else ""
    return f"{known} (n={row.num_queries}){mark}".strip()


def validity_word(row: Measurement) -> str:
    """Return the word for a row: valid, noisy, invalid, quick, failed or not measured."""
    if row.status != "ok":
        return row.status
    return row.validity or row.protocol


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


def knobs_text(knobs: Mapping[str, float]) -> str:
    """Give knobs in words, to four digits."""
    return ", ".join(f"{name} {value:.4g}" for name, value in knobs.items())
