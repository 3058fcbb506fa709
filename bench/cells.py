"""Figures and names as cells of a table: an accuracy never without its interval, a percentile never without n."""

import html
import re
from typing import Final

from bench.records import Measurement
from bench.stats import percentile, wilson_interval

NO_VALUE: Final = "-"


def latency_cell(row: Measurement) -> str:
    """Give a measurement in words: p50 and p90 with their number of queries, or why there is none."""
    if row.verdict == "failed":
        return f"failed: {row.reason}"
    median = percentile(row.samples_ms, 50)
    if row.batch_size > 1:
        return f"{1e3 * row.batch_size / median:.0f} images/s (n={row.num_queries})"
    return f"{median:.1f} / {percentile(row.samples_ms, 90):.1f} ms (n={row.num_queries})"


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
