"""The terminal's side of ``logging``: progress events are drawn in place, everything else is a line."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Final, Protocol, runtime_checkable

from rich.console import Console, RenderableType
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.theme import Theme

REDRAW_S: Final = 0.1

WARNING_TEXT: Final = "WARNING:"

LOGGERS: Final = ("bench", "imgcls")


@runtime_checkable
class Drawable(Protocol):
    """A progress event that a terminal can draw."""

    @property
    def ended(self) -> bool:
        """Whether the drawing can be removed."""

    def __rich__(self) -> RenderableType:
        """Return what is drawn."""


class Display(logging.Handler):
    """Shows log records on a console: on a terminal with live drawings, elsewhere as plain lines."""

    def __init__(self, console: Console) -> None:
        """Draw nothing yet."""
        super().__init__()
        self._console = console
        self._lines = _terminal_lines(console) if console.is_terminal else logging.StreamHandler(sys.stdout)
        self._lines.setFormatter(_Formatter())
        self._live: Live | None = None
        self._drawn = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Draw an event, or write a line."""
        event = record.msg
        if self._console.is_terminal and isinstance(event, Drawable):
            self._draw(event)
        elif record.levelno >= logging.INFO:
            self.clear()  # whatever was drawn may have ended without its last event, as when a worker was killed
            self._lines.emit(record)

    def _draw(self, event: Drawable) -> None:
        if event.ended:
            self.clear()
            return
        if self._live is None:
            # No thread redraws: it would run beside what is timed.
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
            self._drawn = 0.0
        if time.monotonic() - self._drawn >= REDRAW_S:
            self._live.update(event.__rich__(), refresh=True)
            self._drawn = time.monotonic()

    def clear(self) -> None:
        """Remove what is drawn."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{WARNING_TEXT} {text}" if record.levelno == logging.WARNING else text


def _terminal_lines(console: Console) -> logging.Handler:
    return RichHandler(
        console=console,
        show_time=False,
        show_level=False,
        show_path=False,
        highlighter=NullHighlighter(),
        keywords=[WARNING_TEXT, "failed:", "stopped:"],
    )


def new_console() -> Console:
    """Return the console of a command, which wraps nothing: a line that is piped stays one."""
    theme = Theme({"logging.keyword": "bold red"})
    return Console(highlight=False, soft_wrap=True, theme=theme)


@contextlib.contextmanager
def showing_logs(console: Console) -> Iterator[None]:
    """Show what ``bench`` and ``imgcls`` log, until the command ends."""
    display = Display(console)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(display)
        logger.setLevel(logging.DEBUG if console.is_terminal else logging.INFO)
    try:
        yield
    finally:
        display.clear()
        for logger in loggers:
            logger.removeHandler(display)
            logger.setLevel(logging.NOTSET)
