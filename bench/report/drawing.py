"""Drawing of figures as SVG text whose colours follow the theme of the page."""

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
"""Placeholder of the page's text colour, which matplotlib has no name for; a colour that nothing else uses."""

STYLE: Final[dict[Any, Any]] = {
    # Text stays text: it can be searched, and is smaller than the outlines of its letters.
    "svg.fonttype": "none",
    # Names of classes may contain "$".
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
"""Number of colours of matplotlib's colormap tab20."""

PANEL: Final = 3.4
"""Height of a panel in inches."""


def svg(draw: Callable[[], Figure | None], *, name: str) -> str | None:
    """Return a figure as SVG text in the colour of the text around it; None if ``draw`` returns None.

    The same figure gives the same text: ``name`` replaces the random salt of its ids, and the date is omitted.
    """
    # ``name`` differs between the figures of a page, because equal ids in one HTML document would refer to the first.
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = draw()
        if figure is None:
            return None
        out = io.StringIO()
        FigureCanvasSVG(figure).print_figure(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    # Without the XML declaration and the doctype, which are invalid within HTML.
    return text[text.index("<svg") :].replace(INK, "currentColor")


def panels(
    number: int, *, columns: int = 3, height: float = PANEL, layout: Literal["constrained"] | None = "constrained"
) -> tuple[Figure, list["Axes"]]:
    """Return a figure with ``number`` panels in rows, and their axes; ``height`` is that of one panel in inches."""
    columns = min(columns, number)
    rows = math.ceil(number / columns)
    # Not with pyplot, which would keep every figure until it is closed.
    figure = Figure(figsize=(PANEL * 1.2 * columns, height * rows), layout=layout)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[number:]:
        spare.set_visible(False)
    return figure, axes[:number]


def logarithmic(axes: "Axes", *, along: Literal["x", "y"] = "x") -> None:
    """Set a logarithmic scale with plain numbers at 1, 2 and 5 of each decade."""
    # The default labels are powers of ten as mathematical text, which STYLE disables.
    axes.set(**{f"{along}scale": "log"})
    axis = axes.xaxis if along == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def colour(place: int) -> Any:  # noqa: ANN401 - a matplotlib colour
    """Return the colour of row ``place``."""
    # tab20 alternates between ten strong colours and their pale variants: the strong ones first.
    place %= COLOURS
    return mpl.colormaps["tab20"](2 * place if place < COLOURS // 2 else 2 * place - COLOURS + 1)


def name_inches(names: Sequence[str]) -> float:
    """Return the estimated width of the longest name in inches, at most 2.5."""
    # Estimated from its length: matplotlib takes minutes to measure hundreds of tick labels.
    return min(0.3 + 0.075 * max(len(name) for name in names), 2.5)
