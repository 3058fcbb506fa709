"""Who may run now: one command a training, and nothing of ours beside a latency measurement.

All locks are the kernel's: they end with the process that holds them, however it ends.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

Say = Callable[[str], None]


@contextlib.contextmanager
def training_lock(results: Path, train_id: str, *, say: Say) -> Iterator[None]:
    """Hold a training of this results folder; wait, and say so, while another command holds it."""
    folder = results / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{train_id}.lock")
    busy = "another command trains this run"
    with _held(partial(lock.acquire, timeout=0), lock.acquire, lock.release, say=say, wait=busy):
        yield


def record_lock(results: Path, run_id: str) -> FileLock:
    """Give the lock that is held while a record is replaced; whoever holds it waits for nothing else."""
    return FileLock(results / ".locks" / f"{run_id}.record.lock")


@contextlib.contextmanager
def machine_shared(*, say: Say) -> Iterator[None]:
    """Hold the machine with others that train; wait while a latency is measured."""
    lock = _machine_lock()
    now = partial(lock.acquire_read, timeout=0, blocking=False)
    busy = "a latency measurement is running on this machine"
    with _held(now, lock.acquire_read, lock.release, say=say, wait=busy):
        yield


@contextlib.contextmanager
def machine_alone(*, say: Say) -> Iterator[None]:
    """Hold the machine alone, to measure latency; wait while any of ours trains or measures."""
    lock = _machine_lock()
    now = partial(lock.acquire_write, timeout=0, blocking=False)
    busy = "other runs of this harness are busy on this machine, and latency is measured alone"
    with _held(now, lock.acquire_write, lock.release, say=say, wait=busy):
        yield


@contextlib.contextmanager
def _held(
    now: Callable[[], object], later: Callable[[], object], release: Callable[[], object], *, say: Say, wait: str
) -> Iterator[None]:
    """Take a lock now, or say why it takes time and wait for it."""
    try:
        now()
    except Timeout:
        say(f"{wait}; waiting for its end")
        later()
    try:
        yield
    finally:
        release()


def _machine_lock() -> ReadWriteLock:
    return ReadWriteLock(str(Path(tempfile.gettempdir()) / "imgcls-bench-machine.lock"), is_singleton=False)
