"""Execution of trainings and trials on Ray, each with one GPU or, without GPUs, with a share of a node's cores."""

import datetime as dt
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from bench.config import REPOSITORY
from bench.records.paths import OUTCOME
from bench.records.schema import RunRecord
from bench.runs import failures, local
from bench.runs.execution import prepare
from bench.runs.on_ray import ray_tasks
from bench.runs.plan import Task, finished_record, record_file
from bench.runs.processes import steady_memory
from imgcls.config import LoaderConfig, Precision, TrainConfig
from imgcls.errors import ConfigError
from imgcls.files import default_cache, write_bytes
from imgcls.messages import Setting
from imgcls.models.registry import ModelSpec
from imgcls.parallel import usable_cores
from imgcls.training.precision import Speedup, decide

LOGGER = logging.getLogger(__name__)

RETRIES: Final = 2
"""Number of times that Ray repeats a task whose worker was killed."""

CONNECT_LIMIT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The CPU threads and GPUs of one training, and ``parcels``, the objects already in the cluster's object store."""

    threads: int
    gpus: int
    parcels: dict[object, Any]
    address: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The options of a task, for Ray."""
        return {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": RETRIES}


@contextmanager
def connected(address: str, *, jobs: int) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine; raises ConfigError if that fails or it has too few GPUs."""
    # By default Ray sends usage statistics, and some versions hide the GPUs from tasks that request none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # noqa: PLC0415 - optional
    except ImportError:
        reason = ": Ray is not installed; pip install 'imgcls-bench[ray]'"
        raise ConfigError(Setting("launcher", "ray"), reason) from None
    _init(ray, address)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        if 0 < gpus < jobs:
            raise ConfigError(Setting("jobs", jobs), f": the cluster has {gpus} GPU(s), and each training takes one")
        # Any node may receive a training, so the node with the fewest cores determines the threads of all.
        at_once = -(-jobs // len(nodes))
        cores = int(min(node.get("CPU", 1) for node in nodes))
        yield Cluster(threads=max(1, cores // at_once), gpus=1 if gpus else 0, parcels={}, address=address)
    finally:
        ray.shutdown()


def _init(ray: Any, address: str) -> None:  # noqa: ANN401 - a module that may not be installed
    """Connect; processes that Ray starts here end with the calling thread. Raises ConfigError if that fails."""
    # The packages are sent along, because the workers may have no checkout, or one of a different version.
    code = [str(REPOSITORY / "imgcls"), str(REPOSITORY / "bench")]
    workers = {"py_modules": code, "env_vars": steady_memory()}
    options: dict[str, Any] = {"runtime_env": workers, "log_to_driver": False, "logging_level": "error"}
    options |= {"address": address} if address else {"num_cpus": usable_cores(), "include_dashboard": False}
    try:
        if address and address != "auto":
            # If nothing listens there, Ray itself would wait for minutes.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT_LIMIT_S).close()
        ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f": no cluster there ({why}); use HOST:PORT, or auto"
        raise ConfigError(Setting("ray_address", address or "(none)"), reason) from error


def parcel_of(task: Task, cluster: Cluster) -> tuple[ray_tasks.Parcel, Any, Any]:
    """Put the pixels and weights of a task into the object store, once for all tasks that share them."""
    import ray  # noqa: PLC0415

    resize, file = task.spec.resize, task.spec.weights.file
    prepared = prepare(task)  # of each task: pixels are shared by all splits and folds, rows are not
    if resize not in cluster.parcels:
        assert isinstance(prepared.pixels, np.ndarray), "the launcher allows no other store"
        cluster.parcels[resize] = ray.put(prepared.pixels[:])
    if file not in cluster.parcels:
        cluster.parcels[file] = ray.put(None if file is None else Path(file).read_bytes())
    # Without paths of this machine, which workers may not have.
    spec = replace(task.spec, weights=replace(task.spec.weights, file=None))
    return (
        ray_tasks.Parcel(
            task=replace(task, spec=spec, data="", labels=None),
            audit=prepared.audit,
            rows=prepared.rows,
            group_of=prepared.group_of,
        ),
        cluster.parcels[resize],
        cluster.parcels[file],
    )


def decide_there(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig, *, cluster: Cluster) -> Precision:
    """Return the precision of a training on the cluster; ``auto`` is decided once, on one of its nodes."""
    # Whether the nodes have a requested precision is not known here: without it, the run fails.
    if train.precision != "auto":
        return train.precision

    def measure(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup | None:
        import ray  # noqa: PLC0415

        # Without the path of the weights, which a worker may not have; a step takes the same time from random ones.
        bare = replace(spec, weights=replace(spec.weights, file=None))
        there = ray.remote(ray_tasks.measure_speedup).options(**cluster.options)
        try:
            measured: Speedup | None = ray.get(there.remote(bare, loader, train))
        except ray.exceptions.RayError as error:
            LOGGER.warning("the cluster could not choose a precision: %s", (str(error).splitlines() or [""])[-1])
            return None
        return measured

    # Kept here for all runs of this cluster: its nodes must not decide differently for the seeds of one row.
    return decide(spec, loader, train, cache=default_cache(), place=f"ray {cluster.address}", measure=measure)


def train(tasks: Sequence[Task], *, cluster: Cluster) -> list[RunRecord]:
    """Carry out the tasks that are not done yet, on the cluster; write their files here, and disconnect.

    Disconnecting ends a cluster that was started here, so that it does not run beside the measurements that follow.
    """
    import ray  # noqa: PLC0415

    records = [local.done_already(task, local.title_of(task)) for task in tasks]
    carry_out = ray.remote(ray_tasks.run).options(**cluster.options)
    started = dt.datetime.now(dt.UTC)
    waiting = {
        carry_out.remote(*parcel_of(task, cluster)): number
        for number, task in enumerate(tasks)
        if records[number] is None
    }
    while waiting:
        # In the order in which they end: the results of a finished task survive an interruption.
        (ref,), _ = ray.wait(list(waiting))
        number = waiting.pop(ref)
        records[number] = _collected(tasks[number], ref, started)
    ray.shutdown()
    return [record for record in records if record is not None]


def _collected(task: Task, ref: Any, started: dt.datetime) -> RunRecord:  # noqa: ANN401 - Ray's reference
    import ray  # noqa: PLC0415

    try:
        files: ray_tasks.Files = ray.get(ref)
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return local.write_failed(task, f"RunError: lost on the cluster ({reason})", started)
    name = record_file(task).relative_to(task.paths.results).as_posix()
    record = msgspec.json.decode(files[name], type=RunRecord)
    if record.status == "ok":
        LOGGER.info("%s: done", local.title_of(task))
    else:
        LOGGER.error("%s: failed: %s", local.title_of(task), failures.last_line(record.error or ""))
    # As on this machine, a repetition that fails must not replace a result.
    if record.status == "failed" and finished_record(task) is not None:
        LOGGER.warning("  the result from before this repetition is kept")
    else:
        write_files(files, task.paths.results)
    return record


def write_files(files: ray_tasks.Files, results: Path) -> None:
    """Write files into the results folder."""
    # Records and outcomes last: their existence means that the files they refer to are complete.
    for name in sorted(files, key=lambda name: (name.startswith("records/"), name.endswith((OUTCOME, ".json")))):
        write_bytes(files[name], results / name)
