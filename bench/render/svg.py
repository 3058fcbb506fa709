"""Accuracies with their intervals as a picture, for light and dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.render.documents import Number
from bench.render.escaping import visible

CHART: Final = {"rank": 52, "letter": 7.2, "scale": 320, "gap": 24, "score": 190, "line": 26, "top": 26}
"""Sizes of the picture in pixels: columns, the mean width of a letter, the height of a line and of the head."""

CHART_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.grid{stroke:#d5dae1}text.soft{fill:#5a6470;font-size:11px}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e8ee}.grid{stroke:#39414b}text.soft{fill:#a3adb8}}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A line of the picture: a value in per cent with its interval, its colour, and its mark, one of ``MARKS``."""

    rank: str
    name: str
    score: Number
    colour: str
    mark: str


MARKS: Final[dict[str, str]] = {
    "default": '<circle r="4.5"/>',
    "tuned": '<path d="M0-5.4l5 9h-10z"/>',
    "head": '<path d="M-4-4h8v8h-8z"/>',
    "ensemble": '<path d="M0-6l6 6l-6 6l-6-6z"/>',
}
"""Marks around the origin, with the shapes of the page's charts."""


def chart(title: str, bars: Sequence[Bar]) -> str:
    """Return values with their intervals as SVG, for light and dark pages."""
    left = CHART["rank"] + round(CHART["letter"] * max((len(bar.name) for bar in bars), default=0)) + CHART["gap"]
    right, top = left + CHART["scale"], CHART["top"]
    least = min((_ends(bar.score)[0] for bar in bars), default=0.0)
    low, height = 10 * math.floor(least / 10), top + CHART["line"] * len(bars) + 8

    def x(value: float) -> float:
        return round(left + (min(max(value, low), 100.0) - low) / (100.0 - low) * (right - left), 1)

    parts = [f"<title>{escape(title)}</title><style>{CHART_STYLE}</style>", _text(0, 14, "Rank", "soft")]
    parts += [_text(CHART["rank"], 14, "Row", "soft"), _text(right + CHART["gap"], 14, "Top-1 % (95 % CI)", "soft")]
    for tick in range(low, 101, 10):
        parts.append(f'<line x1="{x(tick)}" x2="{x(tick)}" y1="20" y2="{height - 6}" class="grid"/>')
        parts.append(_text(x(tick) - 8, 16, str(tick), "soft"))
    for position, bar in enumerate(bars):
        y, (first, last) = top + CHART["line"] * (position + 0.5), map(x, _ends(bar.score))
        line = f'<rect x="{first}" y="{y - 5}" width="{max(last - first, 1):.1f}" height="10" rx="2" opacity="0.4"/>'
        mark = f'<g transform="translate({x(bar.score.value)} {y})">{MARKS[bar.mark]}</g>'
        parts.append(f'<g fill="{bar.colour}">{line}{mark}</g>')
        parts += [
            _text(0, y + 4, bar.rank),
            _text(CHART["rank"], y + 4, bar.name),
            _text(right + CHART["gap"], y + 4, str(bar.score)),
        ]
    width = right + CHART["gap"] + CHART["score"]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{visible("".join(parts))}</svg>\n'


def _ends(score: Number) -> tuple[float, float]:
    return (score.value, score.value) if score.low is None or score.high is None else (score.low, score.high)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(text)}</text>'
