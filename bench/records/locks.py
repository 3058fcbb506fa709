"""Locks: one command per training, and no training beside a latency measurement on the same machine.

All locks are held by the kernel, which releases them when their process ends, however it ends.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from bench.records.machine import machine_lock
from bench.records.paths import Paths

LOGGER = logging.getLogger(__name__)

MACHINE_LOCK: Final = "imgcls-bench-machine.lock"
QUEUE_LOCK: Final = "imgcls-bench-queue.lock"
"""Files in ``lock_folder``."""

PASSING_S: Final = 0.5
"""A wait for the queue is logged after this time: a training holds it for milliseconds, a measurement for long."""

SLICE_S: Final = 1.0
"""Longest single wait for a lock. It cannot be interrupted: Ctrl-C takes effect only between two waits."""


@contextlib.contextmanager
def training_lock(results: Path, train_id: str) -> Iterator[None]:
    """Hold the lock of a training in this results folder; a wait for another command is logged."""
    folder = Paths(results=results).locks
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{train_id}.lock")
    busy = "another command trains this run; waiting for its end"
    with _held(lock.acquire, lock.release, wait=busy):
        yield


def record_lock(results: Path, run_id: str) -> FileLock:
    """Return the lock to hold while a record is replaced; its holder must not wait for another lock."""
    return FileLock(Paths(results=results).locks / f"{run_id}.record.lock")


@contextlib.contextmanager
def machine_shared(*, purpose: str = "train") -> Iterator[None]:
    """Hold the machine lock together with other trainings; wait while a latency measurement runs or is queued."""
    # The queue is free unless a measurement waits. It is released before the machine lock is taken, because a process
    # that holds the machine lock must not wait for anything that a waiting measurement holds.
    with _queue(wait=f"waiting to {purpose}: a latency measurement is next on this machine"):
        pass
    lock = machine_lock(MACHINE_LOCK)
    busy = f"waiting to {purpose}: a latency measurement is running on this machine"
    with _held(lock.acquire_read, lock.release, wait=busy):
        yield


@contextlib.contextmanager
def machine_alone(*, purpose: str = "measure") -> Iterator[None]:
    """Hold the machine lock exclusively to measure; wait while other processes of this harness hold it."""
    # The queue is held while waiting, so that later trainings do not start first. With the machine lock alone,
    # trainings that overlap could make a measurement wait forever.
    lock = machine_lock(MACHINE_LOCK)
    busy = f"waiting to {purpose}: other runs are active, and measurement needs the machine to itself"
    with contextlib.ExitStack() as turn:
        turn.enter_context(_queue(wait=f"waiting to {purpose}: another measurement is next on this machine"))
        with _held(lock.acquire_write, lock.release, wait=busy):
            # The next measurement may now wait in the queue.
            turn.close()
            yield


def _queue(*, wait: str) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of the queue, whose only member is the next process that takes the machine lock."""
    lock = machine_lock(QUEUE_LOCK)
    return _held(lock.acquire_write, lock.release, wait=wait, patience_s=PASSING_S)


@contextlib.contextmanager
def _held(
    acquire: Callable[[float], object],
    release: Callable[[], object],
    *,
    wait: str,
    patience_s: float = 0.0,
) -> Iterator[None]:
    """Hold a lock, whose ``acquire`` takes a timeout in seconds; log ``wait`` if it takes more than ``patience_s``."""
    try:
        acquire(patience_s)
    except Timeout:
        LOGGER.info(wait)
        acquired = False
        while not acquired:
            with contextlib.suppress(Timeout):
                acquire(SLICE_S)
                acquired = True
    try:
        yield
    finally:
        release()
