"""Carry out command lines: here, one at a time, and never outliving their caller."""

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

PARENT_GONE_STATUS = 129

GRACE_S = 10.0


def launch(command: list[str]) -> int:
    """Run ``python -m`` with ``command`` to its end and give its exit status (negative: killed by that signal).

    The child holds the reading end of a pipe of ours and ends when we are gone (``end_with_parent``). When we
    are interrupted, it is ended too.
    """
    with start(command) as child:
        try:
            return child.wait()
        except BaseException:
            end(child)
            raise


def start(command: list[str], *, read: bool = False) -> "subprocess.Popen[bytes]":
    """Start ``python -m`` with ``command``, for a caller that looks after several, or that reads what it prints."""
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE if read else None
    )


def read_lines(command: list[str], tell: Callable[[bytes], None]) -> int:
    """Run ``python -m`` with ``command`` as ``launch`` does, and pass on each line that it prints as it comes."""
    with start(command, read=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                tell(line)
            return child.wait()
        except BaseException:
            end(child)
            raise


def end(child: "subprocess.Popen[bytes]") -> None:
    """End a child, gently at first."""
    child.terminate()
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(arguments: list[str], kinds: Mapping[str, Callable[[Path], int]]) -> int:
    """Carry out one task in a process that ``start`` has begun, and return its exit status.

    ``arguments`` are the kind of task and the file that holds it.
    """
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; the caller ends us in order
    end_with_parent()
    kind, path = arguments
    return kinds[kind](Path(path))


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
