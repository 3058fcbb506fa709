"""Tasks of a Ray worker, which shares no disk with the caller: data arrive as objects, and files return as bytes."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.records import locks
from bench.records.paths import Paths
from bench.runs.execution import run_and_record
from bench.runs.plan import Task
from imgcls.config import LoaderConfig, TrainConfig
from imgcls.data.audit import Audit
from imgcls.data.prepared import Prepared
from imgcls.models.registry import ModelSpec
from imgcls.training.precision import Speedup, speedup

Files = dict[str, bytes]
"""Contents of files by their path relative to a results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """A task without paths of the caller's machine, and its data without the pixels."""

    task: Task
    audit: Audit
    rows: dict[str, tuple[int, ...]]
    group_of: NDArray[np.int64]


@contextlib.contextmanager
def unpacked(parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None) -> Iterator[tuple[Task, Prepared]]:
    """Yield the task with paths in a temporary folder of this machine, and its data."""
    home = Path(tempfile.mkdtemp(prefix="imgcls-"))
    try:
        spec = parcel.task.spec
        if weights is not None:
            file = home / "weights.safetensors"
            file.write_bytes(weights)
            spec = replace(spec, weights=replace(spec.weights, file=file))
        paths = Paths(results=home / "results", cache=home / "cache")
        task = replace(parcel.task, spec=spec, paths=paths, data=str(home / "data"))
        yield task, Prepared(audit=parcel.audit, pixels=pixels, rows=parcel.rows, group_of=parcel.group_of)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def measure_speedup(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup:
    """Return the speed of training steps in a reduced precision over that in fp32, alone on this machine."""
    with locks.machine_alone(purpose="choose a precision"):
        return speedup(spec, loader, train)


def run(parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None) -> Files:
    """Train, evaluate and export; return the record and the artifacts as bytes."""
    with unpacked(parcel, pixels, weights) as (task, prepared):
        run_and_record(task, prepared)
        results = task.paths.results
        files = [path for kind in ("artifacts", "records") for path in (results / kind).rglob("*") if path.is_file()]
        return {path.relative_to(results).as_posix(): path.read_bytes() for path in files}
