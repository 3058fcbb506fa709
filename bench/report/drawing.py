"""How the report draws: SVG text whose colours follow the page's theme, and names that are text and never markup."""

import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK: Final = "#010203"
"""Stands for the page's text colour until the SVG is written."""

STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}

COLOURS: Final = 20

PANEL: Final = 3.4
"""Inches."""


def svg(draw: Callable[[], Figure | None], *, name: str) -> str | None:
    """Draw a figure and give it as SVG text without a date, in the colour of the text around it; None where no data."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = draw()
        if figure is None:
            return None
        out = io.StringIO()
        FigureCanvasSVG(figure).print_figure(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def panels(
    number: int, *, columns: int = 3, height: float = PANEL, layout: Literal["constrained"] | None = "constrained"
) -> tuple[Figure, list["Axes"]]:
    """Lay out some panels in rows; ``height`` of one in inches."""
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(PANEL * 1.2 * columns, height * rows), layout=layout)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[number:]:
        spare.set_visible(False)
    return figure, axes[:number]


def logarithmic(axes: "Axes", *, along: Literal["x", "y"] = "x") -> None:
    """Label 1, 2 and 5 of each decade in plain figures: text is never read as mathematics here."""
    axes.set(**{f"{along}scale": "log"})
    axis = axes.xaxis if along == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def colour(place: int) -> Any:  # noqa: ANN401 - a matplotlib colour
    """Return strong colours first, then the pale ones."""
    place %= COLOURS
    return mpl.colormaps["tab20"](2 * place if place < COLOURS // 2 else 2 * place - COLOURS + 1)


def name_inches(names: Sequence[str]) -> float:
    """Guess the room that the longest class name takes, up to 2.5 inches: measuring hundreds of them takes minutes."""
    return min(0.3 + 0.075 * max(len(name) for name in names), 2.5)
