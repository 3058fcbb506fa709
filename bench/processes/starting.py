"""What a caller does with worker processes: it starts them, reads what they send through a pipe, and ends them.

Their log records are logged under the same logger name.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NoReturn

import msgspec

from bench.processes.serving import LogLine
from imgcls.config import Device
from imgcls.devices import VISIBLE, visible_devices

SPIN_COUNT = "1000"
"""Spins of a waiting OpenMP thread before it sleeps: microseconds."""

STEADY_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}
"""Makes glibc keep freed memory. By default it returns each large tensor to the system, whose pages are then zeroed
again for the next one: a quarter of the time of a training step of MobileNetV2 at 160 px on two cores."""

GRACE_S = 10.0
"""Time from SIGTERM to SIGKILL."""

LOGGER = logging.getLogger(__name__)

Receive = Callable[[bytes], None]
"""Receives a result of a worker, as JSON."""


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
            assert child.stdout is not None
            relay(child.stdout, receive)
            return child.wait()
        except BaseException:  # KeyboardInterrupt is not an Exception
            end(child)
            raise


def start(
    command: list[str],
    *,
    threads: int | None = None,
    device: str | None = None,
    stdin: int = subprocess.PIPE,
) -> "subprocess.Popen[bytes]":
    """Start ``python -m`` with ``command``; the caller must ``relay`` its output, as a full pipe would block it.

    ``threads`` limits the threads of its libraries (``limited``), and ``device`` is the only CUDA device that it sees.
    The end of ``stdin`` is that of this process, to which nothing is written by default.
    """
    environment = {**os.environ, **({} if threads is None else limited(threads))}
    if device is not None:
        environment[VISIBLE] = device
    return subprocess.Popen([sys.executable, "-m", *command], stdin=stdin, stdout=subprocess.PIPE, env=environment)


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


def relay(lines: Iterable[bytes], receive: Receive = ignore) -> None:
    """Read what a worker writes until it ends: log its records, and pass its results to ``receive``."""
    for line in lines:
        if not line.endswith(b"\n"):
            return  # the worker was killed while it wrote the line
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
