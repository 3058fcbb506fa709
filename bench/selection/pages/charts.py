"""The charts of a race as SVG, for light and dark pages: accuracy over minutes, and over latency."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from bench.render.escaping import visible
from bench.render.svg import CHART_STYLE
from bench.selection.records import Entrant, RaceRecord

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 54, 210, 34, 352
"""Edges of the plot in pixels; to its right are the names of the finalists and the legend."""

COLOURS: Final = {
    None: "#0072B2",
    "significantly worse": "#D55E00",
    "budget": "#8A8F98",
    "failed": "#CC79A7",
    "latency": "#E69F00",
}
"""Colours by the reason for which a candidate left; None: a finalist. Of Okabe and Ito, but for grey."""

TITLES: Final = {None: "finalist", "significantly worse": "significantly worse", "budget": "by budget"}

LETTERS: Final = 28
"""Characters of a name that fit beside the plot."""

LINE: Final = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A scale from values to pixels, with its title and ticks."""

    title: str
    ticks: tuple[float, ...]
    pixel: Callable[[float], float]


def race_chart(record: RaceRecord) -> str:
    """Return val accuracy over the minutes spent on each candidate: a line a candidate, which ends where it left."""
    lines = [(entrant, _course(entrant)) for entrant in record.entrants if entrant.scores]
    minutes = [point[0] for _, course in lines for point in course]
    x, y = _log_axis("Minutes spent on the candidate", minutes), _accuracy_axis(record.entrants)
    parts = [*_frame(x, y)]
    # Finalists last, so that nothing hides them.
    for entrant, course in sorted(lines, key=lambda line: _reason(line[0]) is None):
        colour = COLOURS[_reason(entrant)]
        places = [(x.pixel(spent), y.pixel(accuracy)) for spent, accuracy in course]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        width = 2.2 if _reason(entrant) is None else 1.2
        name = f"<title>{escape(_tooltip(entrant))}</title>"
        marks = "".join(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3"/>' for across, down in places)
        line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        parts.append(f'<g fill="{colour}">{name}{line}{marks}</g>')
    labelled = [
        (entrant, y.pixel(100 * entrant.last.val_top1_accuracy)) for entrant in _finalists(record) if entrant.last
    ]
    parts += [*_names(labelled), *_legend(record)]
    return _svg("Val accuracy of the candidates over the minutes spent on them", parts)


def pareto_chart(record: RaceRecord) -> str | None:
    """Return val accuracy after a candidate's last round over its latency; None if no latency was measured.

    The front is of those that finished the last round: earlier forms are not comparable with it.
    """
    shown = [entrant for entrant in record.entrants if entrant.latency is not None and entrant.scores]
    if not shown:
        return None
    last = len(record.selection.rounds) - 1
    x = _log_axis("p90 latency of the untrained network, ms", [_latency(entrant) for entrant in shown])
    y = _accuracy_axis(shown)
    parts = [*_frame(x, y)]
    front = _front([entrant for entrant in shown if entrant.scored(last)])
    corners = [(x.pixel(_latency(entrant)), y.pixel(_accuracy(entrant))) for entrant in front]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in corners)
    parts.append(f'<polyline points="{path}" fill="none" class="front"/>')
    for entrant in shown:
        colour = COLOURS[_reason(entrant)]
        # Hollow where the accuracy is of an earlier form.
        fill = colour if entrant.scored(last) else "none"
        place = f'cx="{x.pixel(_latency(entrant)):.1f}" cy="{y.pixel(_accuracy(entrant)):.1f}"'
        title = f"<title>{escape(_tooltip(entrant))}</title>"
        parts.append(f'<circle {place} r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.6">{title}</circle>')
    labelled = [(entrant, y.pixel(_accuracy(entrant))) for entrant in _finalists(record) if entrant in shown]
    parts += [*_names(labelled), *_legend(record)]
    return _svg("Val accuracy of the candidates over their latency", parts)


def _course(entrant: Entrant) -> list[tuple[float, float]]:
    spent, points = 0.0, []
    for scored in entrant.scores:
        spent += scored.seconds / 60
        points.append((spent, 100 * scored.val_top1_accuracy))
    return points


def _reason(entrant: Entrant) -> str | None:
    return None if entrant.left is None else entrant.left.reason


def _finalists(record: RaceRecord) -> list[Entrant]:
    return [entrant for entrant in record.entrants if entrant.left is None]


def _latency(entrant: Entrant) -> float:
    assert entrant.latency is not None
    return entrant.latency.value


def _accuracy(entrant: Entrant) -> float:
    assert entrant.last is not None
    return 100 * entrant.last.val_top1_accuracy


def _tooltip(entrant: Entrant) -> str:
    scores = ", ".join(f"{100 * scored.val_top1_accuracy:.1f}" for scored in entrant.scores)
    why = "finalist" if entrant.left is None else f"left: {entrant.left.reason}"
    return f"{entrant.name}: val {scores} %; {why}"


def _front(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the candidates that no faster one equals in accuracy, from the fastest on."""
    front: list[Entrant] = []
    for entrant in sorted(entrants, key=lambda entrant: (_latency(entrant), -_accuracy(entrant))):
        if not front or _accuracy(entrant) > _accuracy(front[-1]):
            front.append(entrant)
    return front


def _log_axis(title: str, values: Sequence[float]) -> Axis:
    """Return an axis on which each doubling has the same length."""
    least, most = max(min(values, default=1.0), 1e-3), max(max(values, default=1.0), 1e-3)
    low, high = math.floor(math.log2(least)), math.ceil(math.log2(most))
    high = max(high, low + 1)

    def pixel(value: float) -> float:
        share = (math.log2(max(value, 2.0**low)) - low) / (high - low)
        return LEFT + share * (WIDTH - RIGHT - LEFT)

    step = max(1, (high - low) // 6)
    return Axis(title=title, ticks=tuple(2.0**power for power in range(low, high + 1, step)), pixel=pixel)


def _accuracy_axis(entrants: Sequence[Entrant]) -> Axis:
    values = [100 * scored.val_top1_accuracy for entrant in entrants for scored in entrant.scores]
    low, high = (
        10 * math.floor(min(values, default=0.0) / 10),
        min(100, 10 * math.ceil(max(values, default=100.0) / 10)),
    )
    high = max(high, low + 10)

    def pixel(value: float) -> float:
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)

    step = 10 if high - low > 20 else 5  # noqa: PLR2004 - three ticks at least
    return Axis(title="Val top-1 %", ticks=tuple(float(tick) for tick in range(low, high + 1, step)), pixel=pixel)


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    for tick in y.ticks:
        down = y.pixel(tick)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}" class="grid"/>'
        yield f'<text x="{LEFT - 8}" y="{down + 4:.1f}" text-anchor="end" class="soft">{tick:g}</text>'
    for tick in x.ticks:
        across = x.pixel(tick)
        yield f'<line x1="{across:.1f}" x2="{across:.1f}" y1="{TOP}" y2="{BOTTOM}" class="grid"/>'
        label = f"{tick:.3g}"
        yield f'<text x="{across:.1f}" y="{BOTTOM + 16}" text-anchor="middle" class="soft">{label}</text>'
    yield f'<text x="{LEFT}" y="{TOP - 14}" class="soft">{y.title}</text>'
    centre = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{centre}" y="{BOTTOM + 36}" text-anchor="middle" class="soft">{x.title}</text>'


def _names(labelled: Sequence[tuple[Entrant, float]]) -> Iterator[str]:
    """Yield the names of finalists beside the plot, at the heights of their accuracies but apart from each other."""
    free = float(TOP)
    for entrant, height in sorted(labelled, key=lambda label: label[1]):
        down = max(height, free)
        free = down + LINE
        name = entrant.name if len(entrant.name) <= LETTERS else f"{entrant.name[: LETTERS - 1]}…"
        yield f'<text x="{WIDTH - RIGHT + 10}" y="{down + 4:.1f}" class="name">{escape(name)}</text>'


def _legend(record: RaceRecord) -> Iterator[str]:
    down = BOTTOM - LINE * len(TITLES)
    for reason, title in TITLES.items():
        count = sum(_reason(entrant) == reason and bool(entrant.scores) for entrant in record.entrants)
        across = WIDTH - RIGHT + 16
        yield f'<circle cx="{across}" cy="{down}" r="4" fill="{COLOURS[reason]}"/>'
        yield f'<text x="{across + 10}" y="{down + 4}" class="soft">{title} ({count})</text>'
        down += LINE


def _svg(title: str, parts: Sequence[str]) -> str:
    style = (
        f"{CHART_STYLE}.front{{stroke:#5a6470;stroke-dasharray:4 3}}text.name{{fill:{COLOURS[None]};font-size:12px}}"
    )
    dark = "@media(prefers-color-scheme:dark){text.name{fill:#56B4E9}.front{stroke:#a3adb8}}"
    head = f"<title>{escape(title)}</title><style>{style}{dark}</style>"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{head}{visible("".join(parts))}</svg>\n'
