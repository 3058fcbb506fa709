"""Who may run now: one command a training, and nothing of ours beside a latency measurement.

All locks are the kernel's: they end with the process that holds them, however it ends.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, ReadWriteLock, Timeout

from bench.records.paths import Paths

LOGGER = logging.getLogger(__name__)

PASSING_S: Final = 0.5
"""A training holds the queue for milliseconds; a longer wait is for a measurement, and worth a line."""

SLICE_S: Final = 1.0
"""One wait for the machine cannot be interrupted; in slices, Ctrl-C ends it and frees the queue."""


@contextlib.contextmanager
def training_lock(results: Path, train_id: str) -> Iterator[None]:
    """Hold a training of this results folder; wait, and log it, while another command holds it."""
    folder = Paths(results=results).locks
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{train_id}.lock")
    busy = "another command trains this run; waiting for its end"
    with _held(lock.acquire, lock.release, wait=busy):
        yield


def record_lock(results: Path, run_id: str) -> FileLock:
    """Return the lock that is held while a record is replaced; whoever holds it waits for nothing else."""
    return FileLock(Paths(results=results).locks / f"{run_id}.record.lock")


@contextlib.contextmanager
def machine_shared(*, purpose: str = "train") -> Iterator[None]:
    """Hold the machine with others that train; wait while a latency is measured, or a measurement waits for its turn.

    The queue is left before the machine is held: who holds the machine waits for nothing that a measurement holds.
    """
    with _queue(wait=f"waiting to {purpose}: a latency measurement is next on this machine"):
        pass
    lock = _machine_lock()
    busy = f"waiting to {purpose}: a latency measurement is running on this machine"
    with _held(lock.acquire_read, lock.release, wait=busy):
        yield


@contextlib.contextmanager
def machine_alone() -> Iterator[None]:
    """Hold the machine alone, to measure latency; wait while any of ours trains or measures.

    Whoever waits for the machine holds the queue, so that trainings that come later do not start before it.
    """
    lock = _machine_lock()
    busy = "waiting to measure: other runs of this harness are busy on this machine, and latency is measured alone"
    with contextlib.ExitStack() as turn:
        turn.enter_context(_queue(wait="waiting to measure: another measurement is next on this machine"))
        with _held(lock.acquire_write, lock.release, wait=busy):
            turn.close()
            yield


def _queue(*, wait: str) -> contextlib.AbstractContextManager[None]:
    """Hold the place of the next one that gets the machine."""
    lock = FileLock(Path(tempfile.gettempdir()) / "imgcls-bench-machine.queue.lock")
    return _held(lock.acquire, lock.release, wait=wait, patience_s=PASSING_S)


@contextlib.contextmanager
def _held(
    acquire: Callable[[float], object],
    release: Callable[[], object],
    *,
    wait: str,
    patience_s: float = 0.0,
) -> Iterator[None]:
    """Take a lock, by a function of a timeout in seconds; log the reason if it takes more than ``patience_s``."""
    try:
        acquire(patience_s)
    except Timeout:
        LOGGER.info(wait)
        _wait(acquire)
    try:
        yield
    finally:
        release()


def _wait(acquire: Callable[[float], object]) -> None:
    while True:
        with contextlib.suppress(Timeout):
            acquire(SLICE_S)
            return


def _machine_lock() -> ReadWriteLock:
    return ReadWriteLock(str(Path(tempfile.gettempdir()) / "imgcls-bench-machine.lock"), is_singleton=False)
