"""Who may run now: one command a training, and nothing of ours beside a latency measurement.

All locks are the kernel's: they end with the process that holds them, however it ends.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, ReadWriteLock, Timeout

Say = Callable[[str], None]


@contextlib.contextmanager
def training_lock(results: Path, train_id: str, *, say: Say) -> Iterator[None]:
    """Hold a training of this results folder; wait, and say so, while another command holds it."""
    folder = results / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{train_id}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another command trains this run; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def record_lock(results: Path, run_id: str) -> FileLock:
    """Give the lock that is held while a record is replaced; whoever holds it waits for nothing else."""
    return FileLock(results / ".locks" / f"{run_id}.record.lock")


@contextlib.contextmanager
def machine_shared(*, say: Say) -> Iterator[None]:
    """Hold the machine with others that train; wait while a latency is measured."""
    lock = _machine_lock()
    try:
        lock.acquire_read(timeout=0, blocking=False)
    except Timeout:
        say("a latency measurement is running on this machine; waiting for its end")
        lock.acquire_read()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def machine_alone(*, say: Say) -> Iterator[None]:
    """Hold the machine alone, to measure latency; wait while any of ours trains or measures."""
    lock = _machine_lock()
    try:
        lock.acquire_write(timeout=0, blocking=False)
    except Timeout:
        say("other runs of this harness are busy on this machine; waiting for them before measuring latency")
        lock.acquire_write()
    try:
        yield
    finally:
        lock.release()


def _machine_lock() -> ReadWriteLock:
    return ReadWriteLock(str(Path(tempfile.gettempdir()) / "imgcls-bench-machine.lock"), is_singleton=False)
