"""What a Ray worker does: its data comes in a parcel, its files go back as bytes; it shares no disk with the caller."""

import contextlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench import locks
from bench.config import Paths
from bench.plan import Task
from bench.preparation import Prepared
from bench.runner import run_and_record
from bench.trial import Fitted, Progress, run_trial
from imgcls.data.audit import Audit

WAIT_S: Final = 0.1
Files = dict[str, bytes]
"""Files by their path in a results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A task without its data's place, and the rows of each split."""

    task: Task
    audit: Audit
    rows: dict[str, tuple[int, ...]]


@contextlib.contextmanager
def _unpacked(parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None) -> Iterator[tuple[Task, Prepared]]:
    """Give the task a folder of its own on this machine, and its data."""
    home = Path(tempfile.mkdtemp(prefix="imgcls-"))
    try:
        spec = parcel.task.spec
        if weights is not None:
            file = home / "weights.safetensors"
            file.write_bytes(weights)
            spec = replace(spec, weights=replace(spec.weights, file=file))
        paths = Paths(results=home / "results", cache=home / "cache")
        task = replace(parcel.task, spec=spec, paths=paths, data=str(home / "data"))
        yield task, Prepared(audit=parcel.audit, pixels=pixels, rows=parcel.rows)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None) -> Files:
    """Train, evaluate and export; give the record and the artifacts as bytes."""
    with _unpacked(parcel, pixels, weights) as (task, prepared):
        run_and_record(task, Console(quiet=True), prepared)
        results = task.paths.results
        found = [path for kind in ("artifacts", "records") for path in (results / kind).rglob("*") if path.is_file()]
        return {path.relative_to(results).as_posix(): path.read_bytes() for path in found}


def try_setting(
    parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None, rungs: tuple[float, ...]
) -> Iterator[Progress | Fitted | Exception]:
    """Carry out one trial, giving its progress as it comes and its end last; ended by whoever stops reading."""
    events: queue.Queue[Progress | Fitted | Exception] = queue.Queue()
    stopped = threading.Event()
    with _unpacked(parcel, pixels, weights) as (task, prepared):
        thread = threading.Thread(target=_fit, args=(task, prepared, rungs, events, stopped), daemon=True)
        thread.start()
        try:
            last = False
            while not last:
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=WAIT_S)
                    last = not isinstance(event, Progress)
                    yield event
        finally:
            stopped.set()
            thread.join()


def _fit(
    task: Task,
    prepared: Prepared,
    rungs: tuple[float, ...],
    events: "queue.Queue[Progress | Fitted | Exception]",
    stopped: threading.Event,
) -> None:
    def on_progress(at: Progress) -> bool:
        events.put(at)
        return stopped.is_set()

    try:
        with locks.machine_shared(say=lambda _line: None):
            events.put(run_trial(task, prepared, on_progress, rungs=rungs, stop=stopped.is_set))
    except Exception as error:  # noqa: BLE001 - the caller makes a failed trial of it
        events.put(error)
