"""What a worker process does for its caller: it sends log records and results, and ends when the caller has ended.

It writes lines of JSON to its standard output. What libraries print there is redirected to standard error.
"""

import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, TextIO

import msgspec

from bench.progress import LOGGERS, Event
from imgcls.messages import Message
from imgcls.parallel import PARENT_GONE_STATUS

FAILED_STATUS = 1

LOGGER = logging.getLogger(__name__)

Tell = Callable[[object], None]
"""Sends a result from a worker to its caller."""

Kinds = Mapping[str, Callable[[Path, Tell], int]]
"""What a worker can do with the file of a task, by the kind of the task; returns an exit status."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A log record on its way from a worker to its caller."""

    logger: str
    level: int
    message: str | Event | Message


def serve(arguments: list[str], kinds: Kinds) -> int:
    """Carry out one task in a process started by ``start``, and return the exit status.

    ``arguments`` are the kind of the task and its file.
    """
    # Prints a traceback if native code crashes.
    faulthandler.enable()
    # Ctrl-C reaches all processes of a terminal; the caller handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # Only ``lines`` writes to standard output; what is printed goes to standard error: by file descriptor, because
    # native code does not print through ``sys.stdout``.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _forward_logs(lines)
    kind, path = arguments
    try:
        return kinds[kind](Path(path), lambda content: _write(lines, "result", content))
    except OSError as error:
        # What a run can record is a failed row; here its results were removed, or cannot be written any more.
        LOGGER.error("  stopped: %s", error)  # noqa: TRY400 - one line, and the caller reports what is missing
        return FAILED_STATUS


def _write(lines: TextIO, kind: str, content: object) -> None:
    lines.write(json.dumps([kind, msgspec.to_builtins(content)], allow_nan=False, ensure_ascii=False) + "\n")
    # So that progress is seen when it happens, and a kill loses no result that was sent.
    lines.flush()


class _Forward(logging.Handler):
    """A logging handler that writes each record as a line for the caller."""

    def __init__(self, lines: TextIO) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line = LogLine(logger=record.name, level=record.levelno, message=record.getMessage())
        if isinstance(record.msg, Event | Message):
            # ValueError for a number that is not finite, such as a loss, and that JSON cannot represent: its text is
            # sent instead.
            with contextlib.suppress(ValueError):
                _write(self._lines, "log", msgspec.structs.replace(line, message=record.msg))
                return
        _write(self._lines, "log", line)


def _forward_logs(lines: TextIO) -> None:
    handler = _Forward(lines)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)  # the caller's own level decides what is shown


def end_with_parent() -> None:
    """End this process as soon as its caller, which holds the other end of stdin, has ended."""
    # Portable, and effective even if the caller is killed.
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> NoReturn:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    # sys.exit would end this thread only.
    os._exit(PARENT_GONE_STATUS)
