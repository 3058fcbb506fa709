"""Numbers and names as cells of a table, and the accuracies of a table as a picture."""

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.comparison.sessions import Sessions, is_outlier, relative_half_width
from bench.comparison.settings import Kind
from bench.comparison.speeds import asked, shown, withheld
from bench.comparison.tables import Row
from bench.latency.protocol import enough_queries
from bench.records.measurements import Measurement
from bench.records.schema import ModelInfo
from bench.stats.intervals import Interval, Score, percentile, wilson_interval

NO_VALUE: Final = "-"

LATENCY_COLUMNS: Final = {"CUDA ms": "pytorch-cuda", "ONNX ms": "onnxruntime-cpu"}
"""The runtimes of the main table, by column; the others are in the tables below it."""

OUTLIER_MARK: Final = " ~"
"""Follows the figure of a row that is noisier than the others of its session."""


def latency_cell(row: Measurement, sessions: Sessions) -> str:
    """Return p50 and p90 with their half-width and number of queries, or the reason for a missing figure."""
    if not row.has_figures:
        return f"{validity_word(row)}: {code(row.reason)}"
    median = percentile(row.samples_ms, 50)
    # Throughput instead of the time of a batch, because it can be compared between batch sizes.
    if row.batch_size > 1:
        return f"{1e3 * row.batch_size / median:.0f} images/s at {row.batch_size} {precision_text(row, sessions)}"
    return f"{figure(median)} / {percentile_cell(row, 90)} ms {precision_text(row, sessions)}"


def latency_text(row: Row, runtime: str, sessions: Sessions) -> str:
    """Return p50 and p90 of the measurement shown for a runtime, or the reason for a missing one."""
    timed = shown(row, runtime)
    if timed is None:
        return _no_figure(row, runtime, reason=True)
    return _threads(timed[1]) + latency_cell(timed[1], sessions)


def _threads(measurement: Measurement) -> str:
    """Return the number of threads if it is not 1."""
    threads = measurement.num_threads
    return "" if threads in {None, 1} else f"{threads} threads: "


def at_least(model: ModelInfo) -> str:
    """Return what precedes the MACs of a network: a mark if operators with matrix products are missing from them."""
    return "≥ " if model.uncounted_products else ""


def median_cell(row: Row, runtime: str, sessions: Sessions) -> str:
    """Return p50 at batch 1 with its relative half-width, or why there is no figure."""
    timed = shown(row, runtime)
    if timed is None:
        return _no_figure(row, runtime, reason=False)
    # One round has no spread, so that a quick figure cannot have a half-width.
    width = relative_half_width(timed[1])
    precision = " (quick)" if width is None else f" ±{100 * width:.0f} %"
    mark = OUTLIER_MARK if is_outlier(timed[1], sessions) else ""
    return _threads(timed[1]) + figure(percentile(timed[1].samples_ms, 50)) + precision + mark


def _no_figure(row: Row, runtime: str, *, reason: bool) -> str:
    """Return why a runtime has no figure: not measured, refused, not checked, invalid or failed."""
    if (word := withheld(row, runtime)) is not None:
        return word
    tried = asked(row, runtime)
    if not tried:
        return "not measured"
    # Of the runs of the network, one that was measured in vain, rather than one that could not be measured.
    attempt = min(
        tried,
        key=lambda measurement: ((measurement.kind, measurement.batch_size) != ("host", 1), measurement.status != "ok"),
    )
    return f"{validity_word(attempt)}: {code(attempt.reason)}" if reason else validity_word(attempt)


def precision_text(row: Measurement, sessions: Sessions) -> str:
    """Return the relative half-width (or "quick"), the number of queries, and a mark if the row is an outlier."""
    width = relative_half_width(row)
    precision = "quick" if row.protocol == "quick" else "" if width is None else f"±{100 * width:.0f} %"
    mark = OUTLIER_MARK if is_outlier(row, sessions) else ""
    return f"{precision} (n={row.num_queries}){mark}".strip()


def validity_word(row: Measurement) -> str:
    """Return the validity of a row: valid, noisy, invalid, quick (not judged), failed or not measured."""
    if row.status != "ok":
        return row.status
    return row.validity or row.protocol


def percentile_cell(row: Measurement, percent: int) -> str:
    """Return a percentile in ms if there are enough queries to state it."""
    if not enough_queries(percent, row.num_queries):
        return NO_VALUE
    return figure(percentile(row.samples_ms, percent))


def figure(milliseconds: float) -> str:
    """Return ms with three significant digits."""
    return f"{milliseconds:.{max(0, 2 - int(math.log10(max(milliseconds, 0.01)) + 1e-9))}f}"


def code(text: object) -> str:
    """Return a name as a Markdown code span: names of classes and files, and errors, may contain any character.

    Only a pipe needs a backslash: it ends the cell of a table even within a code span (GitHub Flavored Markdown, 4.10).
    """
    # A line break would end the table, and an empty span is shown as two backticks.
    plain = re.sub(r"\s", " ", str(text)) or " "
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    space = " " if plain[0] in "` " or plain[-1] in "` " else ""
    return f"{fence}{space}{plain.replace('|', chr(92) + '|')}{space}{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, keep: int = 1) -> list[str]:
    """Return a Markdown table as lines; names and errors in cells must be passed through ``code``.

    The first ``left`` columns are aligned left, the others right. Columns without a value in any row are omitted,
    except the first ``keep``. Without rows there is no table.
    """
    if not rows:
        return []
    indices = [index for index in range(len(columns)) if index < keep or any(row[index] != NO_VALUE for row in rows)]
    marks = ["---" if index < left else "--:" for index in indices]
    lines = [[columns[index] for index in indices], marks, *([row[index] for index in indices] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def accuracy_cell(accuracy: float, number: int) -> str:
    """Return an accuracy in per cent with its 95 % Wilson interval."""
    interval = wilson_interval(round(accuracy * number), number)
    return f"{100 * accuracy:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def interval_cell(interval: Interval) -> str:
    """Return an interval of fractions in per cent, clipped to 0 and 100."""
    return f"{100 * max(interval.low, 0.0):.1f} to {100 * min(interval.high, 1.0):.1f}"


def score_cell(score: Score) -> str:
    """Return a score in per cent with its interval."""
    return f"{100 * score.value:.1f} ({interval_cell(score.interval)})"


def hyperparameters_text(values: Mapping[str, float]) -> str:
    """Return hyperparameters with their values to four significant digits."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


CHART: Final = {"rank": 52, "letter": 7.2, "scale": 320, "gap": 24, "score": 190, "line": 26, "top": 26}
"""Sizes of the picture in pixels: columns, the mean width of a letter, the height of a line and of the head."""

CHART_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.grid{stroke:#d5dae1}text.soft{fill:#5a6470;font-size:11px}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e8ee}.grid{stroke:#39414b}text.soft{fill:#a3adb8}}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A line of the picture: its colour means the family of the model, its mark the kind of the setting."""

    rank: str
    name: str
    score: Score
    colour: str
    kind: Kind


MARKS: Final[dict[Kind, str]] = {
    "default": '<circle r="4.5"/>',
    "tuned": '<path d="M0-5.4l5 9h-10z"/>',
    "head": '<path d="M-4-4h8v8h-8z"/>',
    "ensemble": '<path d="M0-6l6 6l-6 6l-6-6z"/>',
}
"""Marks around the origin, with the shapes of the page's charts."""


def chart(title: str, bars: Sequence[Bar]) -> str:
    """Return accuracies with their intervals as SVG, for light and dark pages."""
    left = CHART["rank"] + round(CHART["letter"] * max((len(bar.name) for bar in bars), default=0)) + CHART["gap"]
    right, top = left + CHART["scale"], CHART["top"]
    least = min((max(bar.score.interval.low, 0.0) for bar in bars), default=0.0)
    low, height = math.floor(10 * least) / 10, top + CHART["line"] * len(bars) + 8

    def x(value: float) -> float:
        return round(left + (min(max(value, low), 1.0) - low) / (1.0 - low) * (right - left), 1)

    parts = [f"<title>{html.escape(title)}</title><style>{CHART_STYLE}</style>", _text(0, 14, "Rank", "soft")]
    parts += [_text(CHART["rank"], 14, "Row", "soft"), _text(right + CHART["gap"], 14, "Top-1 % (95 % CI)", "soft")]
    for tick in range(round(10 * low), 11):
        parts.append(f'<line x1="{x(tick / 10)}" x2="{x(tick / 10)}" y1="20" y2="{height - 6}" class="grid"/>')
        parts.append(_text(x(tick / 10) - 8, 16, str(10 * tick), "soft"))
    for position, bar in enumerate(bars):
        y, score = top + CHART["line"] * (position + 0.5), bar.score
        first, last = x(score.interval.low), x(score.interval.high)
        line = f'<rect x="{first}" y="{y - 5}" width="{max(last - first, 1):.1f}" height="10" rx="2" opacity="0.4"/>'
        mark = f'<g transform="translate({x(score.value)} {y})">{MARKS[bar.kind]}</g>'
        parts.append(f'<g fill="{bar.colour}">{line}{mark}</g>')
        parts += [
            _text(0, y + 4, bar.rank),
            _text(CHART["rank"], y + 4, bar.name),
            _text(right + CHART["gap"], y + 4, score_cell(score)),
        ]
    width = right + CHART["gap"] + CHART["score"]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{"".join(parts)}</svg>\n'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{html.escape(text)}</text>'
