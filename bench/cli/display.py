"""Display of log records: on a terminal, progress events are drawn in place; everything else is printed as lines."""

import contextlib
import copy
import io
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Final, Protocol, runtime_checkable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.highlighter import NullHighlighter
from rich.live import Live
from rich.logging import RichHandler
from rich.segment import Segment
from rich.theme import Theme

from bench.cli.parsing import in_flags
from bench.progress import LOGGERS
from bench.render.escaping import visible
from imgcls.messages import Message

REDRAW_S: Final = 0.1
"""Minimum time between two drawings: drawing takes CPU time from the work whose progress it shows."""

WARNING_TEXT: Final = "WARNING:"
"""Prefix of warnings, as text and not only as a colour, which is lost when output is piped."""


@runtime_checkable
class Drawable(Protocol):
    """A progress event that a terminal can draw."""

    @property
    def ended(self) -> bool:
        """Whether the drawing can be removed."""

    def __rich__(self) -> RenderableType:
        """Return what to draw."""


class Display(logging.Handler):
    """A logging handler that prints records as lines and, on a terminal, draws progress events in place."""

    def __init__(self, console: Console) -> None:
        """Create the handler of a console; nothing is drawn yet."""
        super().__init__()
        self._console = console
        # Not rich elsewhere: its handler lays out each record as a table, which breaks long lines.
        self._lines = _terminal_lines(console) if console.is_terminal else _Lines(console.file)
        self._lines.setFormatter(_Formatter())
        self._live: Live | None = None
        self._drawn = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Draw an event, or write a line."""
        event = record.msg
        if self._console.is_terminal and isinstance(event, Drawable):
            self._draw(event)
        elif record.levelno >= logging.INFO:
            # The drawn work may have ended without its last event, for example because its worker was killed.
            self.clear()
            self._lines.emit(record)

    def _draw(self, event: Drawable) -> None:
        if event.ended:
            self.clear()
            return
        if self._live is None:
            # Without a refresh thread, which would use CPU time during a latency measurement.
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


class _Lines(logging.StreamHandler[IO[str]]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Raise the error of a write, as ``print`` does: a closed pipe or a full disk ends the command."""
        del record
        raise  # noqa: PLE0704 - called while the error is handled


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message: object = record.msg
        if isinstance(message, Message):
            # A copy, because other handlers get the same record.
            record = copy.copy(record)
            record.msg = in_flags(message)
        text = visible(super().format(record))
        return f"{WARNING_TEXT} {text}" if record.levelno == logging.WARNING else text


def _terminal_lines(console: Console) -> logging.Handler:
    return RichHandler(
        console=console,
        # Without the columns for time, level and path, which would leave less width for the lines.
        show_time=False,
        show_level=False,
        show_path=False,
        # Rich's own highlighter colours numbers and paths, between which the keywords would not stand out.
        highlighter=NullHighlighter(),
        keywords=[WARNING_TEXT, "failed:", "stopped:"],
    )


@contextlib.contextmanager
def new_console(*, data_only: bool = False) -> Iterator[Console]:
    """Open the console of a command: on standard output, or on standard error if the former gets ``data_only``."""
    theme = Theme({"logging.keyword": "bold red"})
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal of another encoding than UTF-8 must not end the command: names may hold any character.
        sys.stdout.reconfigure(errors="backslashreplace")
    # A duplicate, because ``quiet_libraries`` discards what is written to standard error itself.
    with os.fdopen(os.dup(2), "w", errors="backslashreplace") if data_only else contextlib.nullcontext() as file:
        # soft_wrap leaves the wrapping of text to the terminal, so that a line stays one line when it is piped.
        yield SafeConsole(file=file, highlight=False, soft_wrap=True, theme=theme)


class SafeConsole(Console):
    """A console that shows control characters in text instead of obeying them, and raises errors of its file."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of what is printed; names of files and classes may hold escape sequences."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))

    def on_broken_pipe(self) -> None:
        """Raise the error, instead of rich's exit with status 1."""
        raise  # noqa: PLE0704 - called while the error is handled


@contextlib.contextmanager
def showing_logs(console: Console) -> Iterator[None]:
    """Show the log records of ``bench`` and ``imgcls`` within the context."""
    display = Display(console)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for logger in loggers:
        logger.addHandler(display)
        # Records at DEBUG are drawings, which only a terminal can show.
        logger.setLevel(logging.DEBUG if console.is_terminal else logging.INFO)
    try:
        yield
    finally:
        display.clear()
        # The loggers outlive the command: ``main`` may be called again in the same process.
        for logger in loggers:
            logger.removeHandler(display)
            logger.setLevel(logging.NOTSET)
