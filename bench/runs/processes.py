"""Worker processes: starting them, reading what they send through a pipe, and ending them with their caller.

A worker writes lines of JSON to its standard output: log records, which the caller logs under the same logger name, and
results. What libraries print there is redirected to standard error.
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

from bench.progress import LOGGERS, Event
from imgcls.config import Device
from imgcls.devices import VISIBLE, visible_devices
from imgcls.messages import Message
from imgcls.parallel import PARENT_GONE_STATUS

SPIN_COUNT = "1000"
"""Spins of a waiting OpenMP thread before it sleeps: microseconds."""

STEADY_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Makes glibc keep freed memory. By default it returns each large tensor to the system, whose pages are then zeroed
again for the next one: a quarter of the time of a training step of MobileNetV2 at 160 px on two cores."""

FAILED_STATUS = 1

GRACE_S = 10.0
"""Time from SIGTERM to SIGKILL."""

LOGGER = logging.getLogger(__name__)

Tell = Callable[[object], None]
"""Sends a result from a worker to its caller."""

Receive = Callable[[bytes], None]
"""Receives a result of a worker, as JSON."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A log record on its way from a worker to its caller."""

    logger: str
    level: int
    message: str | Event | Message


def ignore(_result: bytes) -> None:
    """Discard a result."""


class Group:
    """Child processes that several threads start; Ctrl-C interrupts only the main thread, which then ends them all."""

    def __init__(self) -> None:
        """Begin without children."""
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []
        self.ended = False

    def add(self, child: "subprocess.Popen[bytes]") -> None:
        """Add a child; it is ended at once if the group has ended."""
        with self._lock:
            self._children.append(child)
        if self.ended:
            child.terminate()

    def end(self) -> None:
        """End all children, and those that are added later."""
        self.ended = True
        with self._lock:
            children = list(self._children)
        for child in children:
            end(child)


def launch(
    command: list[str],
    receive: Receive = ignore,
    *,
    threads: int | None = None,
    device: str | None = None,
    group: Group | None = None,
) -> int:
    """Run ``python -m`` with ``command`` until it ends, and return its exit status (minus the signal that killed it).

    ``threads`` and ``device`` are those of ``start``. The child is ended if this process is interrupted, if it belongs
    to a ``group`` together with that, and ends by itself if this process is killed (``end_with_parent``).
    """
    with start(command, threads=threads, device=device) as child:
        if group is not None:
            group.add(child)
        try:
            relay(child, receive)
            return child.wait()
        except BaseException:  # KeyboardInterrupt is not an Exception
            end(child)
            raise


def start(command: list[str], *, threads: int | None = None, device: str | None = None) -> "subprocess.Popen[bytes]":
    """Start ``python -m`` with ``command``; the caller must ``relay`` its output, as a full pipe would block it.

    ``threads`` limits the threads of its libraries (``limited``), and ``device`` is the only CUDA device that it sees.
    """
    environment = {**os.environ, **({} if threads is None else limited(threads))}
    if device is not None:
        environment[VISIBLE] = device
    # Nothing is written to its stdin, which reaches its end when this process ends.
    return subprocess.Popen(
        [sys.executable, "-m", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )


def shared_out(jobs: int, device: Device) -> list[str | None]:
    """Return the CUDA device of each of several jobs, in turn, as ``start`` takes it; None if they do not use one."""
    visible = visible_devices() if device == "cuda" else ()
    if not visible:
        return [None] * jobs
    if jobs > len(visible):
        LOGGER.info("%d jobs at a time on %d CUDA device(s): some share one, and its memory", jobs, len(visible))
    return [visible[number % len(visible)] for number in range(jobs)]


def limited(threads: int) -> dict[str, str]:
    """Return the environment of a process that trains with ``threads`` threads beside other work, and keeps its memory.

    What the user has set stays.
    """
    # Read by the libraries when they are loaded, so that a running process cannot set them.
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    # By default GNU OpenMP's threads spin for milliseconds while they wait for each other. If another process keeps a
    # core busy, they use up the time of the thread that they wait for, and training is several times slower.
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        variables["GOMP_SPINCOUNT"] = SPIN_COUNT
    return variables | steady_memory()


def steady_memory() -> dict[str, str]:
    """Return what of ``STEADY_MEMORY`` the user has not set."""
    return {name: value for name, value in STEADY_MEMORY.items() if name not in os.environ}


def relay(child: "subprocess.Popen[bytes]", receive: Receive = ignore) -> None:
    """Read the output of a child until it ends: log its records, and pass its results to ``receive``."""
    assert child.stdout is not None
    for line in child.stdout:
        if not line.endswith(b"\n"):
            return  # the child was killed while it wrote the line
        # A name of a file need not be UTF-8.
        text = line.decode("utf-8", "replace")
        kind, content = msgspec.json.decode(text, type=tuple[Literal["log", "result"], msgspec.Raw])
        if kind == "result":
            receive(bytes(content))
        else:
            record = msgspec.json.decode(content, type=LogLine)
            logging.getLogger(record.logger).log(record.level, record.message)


def end(child: "subprocess.Popen[bytes]") -> None:
    """Terminate a child, and kill it if it has not ended within ``GRACE_S``."""
    child.terminate()
    try:
        child.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def serve(arguments: list[str], kinds: Mapping[str, Callable[[Path, Tell], int]]) -> int:
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


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C within the context, so that children are ended and the exit status is 130 for both."""

    def interrupt(_signal: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
