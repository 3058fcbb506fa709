"""Worker processes: started one at a time or several, heard through a pipe, and never outliving their caller.

A worker writes lines of JSON to its standard output: log records, which the caller logs again under the same name, and
answers. What libraries print there goes to standard error.
"""

import contextlib
import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NoReturn, TextIO

import msgspec

from bench.progress import Event

PARENT_GONE_STATUS = 129

GRACE_S = 10.0

Tell = Callable[[object], None]
"""Sends an answer from a worker to its caller."""

Answer = Callable[[bytes], None]
"""Receives an answer as JSON."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A log record on its way from a worker to its caller."""

    logger: str
    level: int
    message: str | Event


def ignore(_answer: bytes) -> None:
    """Receive an answer that nobody asked for."""


def launch(command: list[str], answer: Answer = ignore) -> int:
    """Run ``python -m`` with ``command`` to its end and return its exit status (negative: killed by that signal).

    The child holds the reading end of a pipe of ours and ends when we are gone (``end_with_parent``). When we
    are interrupted, it is ended too.
    """
    with start(command) as child:
        try:
            relay(child, answer)
            return child.wait()
        except BaseException:
            end(child)
            raise


def start(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start ``python -m`` with ``command``; the caller must ``relay`` what it writes, or the pipe fills."""
    return subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def relay(child: "subprocess.Popen[bytes]", answer: Answer = ignore) -> None:
    """Read what a child writes until its end: log its records here, and pass its answers on."""
    assert child.stdout is not None
    for line in child.stdout:
        if not line.endswith(b"\n"):
            return  # cut short by a kill
        kind, content = msgspec.json.decode(line, type=tuple[Literal["log", "answer"], msgspec.Raw])
        if kind == "answer":
            answer(bytes(content))
        else:
            record = msgspec.json.decode(content, type=LogLine)
            logging.getLogger(record.logger).log(record.level, record.message)


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a child, gently at first."""
    child.terminate()
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(arguments: list[str], kinds: Mapping[str, Callable[[Path, Tell], int]]) -> int:
    """Carry out one task in a process that ``start`` has begun, and return its exit status.

    ``arguments`` are the kind of task and the file that holds it.
    """
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; the caller ends us in order
    end_with_parent()
    lines = _own_output()
    _forward_logs(lines)
    kind, path = arguments
    return kinds[kind](Path(path), lambda content: _write(lines, "answer", content))


def _own_output() -> TextIO:
    """Keep standard output for our lines alone: what libraries print goes to standard error."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lines


def _write(lines: TextIO, kind: str, content: object) -> None:
    lines.write(json.dumps([kind, msgspec.to_builtins(content)], allow_nan=False) + "\n")
    lines.flush()


class _Forward(logging.Handler):
    """Writes each record as a line for the caller."""

    def __init__(self, lines: TextIO) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        line = LogLine(logger=record.name, level=record.levelno, message=record.getMessage())
        if isinstance(record.msg, Event):
            with contextlib.suppress(ValueError):  # a loss that is not finite has no JSON; its text has
                _write(self._lines, "log", msgspec.structs.replace(line, message=record.msg))
                return
        _write(self._lines, "log", line)


def _forward_logs(lines: TextIO) -> None:
    handler = _Forward(lines)
    for name in ("bench", "imgcls"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)  # the caller's own level decides what is shown


def end_with_parent() -> None:
    """Make this process end as soon as its caller, which holds the other end of stdin, is gone."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> NoReturn:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(PARENT_GONE_STATUS)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that children end and the exit status is 130 for both."""

    def interrupt(_signal: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
