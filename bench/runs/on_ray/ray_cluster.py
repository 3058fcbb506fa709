"""Execution of trainings and trials on Ray, each with one GPU or, without GPUs, with a share of a node's cores."""

import datetime as dt
import logging
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.config import REPOSITORY
from bench.processes.starting import steady_memory
from bench.records.paths import OUTCOME
from bench.records.schema import RunRecord
from bench.runs import failures, local
from bench.runs.on_ray import ray_tasks
from bench.runs.plan import Task, finished_record, record_file
from imgcls.config import LoaderConfig, Precision, StoreConfig, TrainConfig
from imgcls.data.sources.registry import absolute
from imgcls.data.stores.choice import DEFAULT as DEFAULT_STORE
from imgcls.errors import ConfigError
from imgcls.files import default_cache, write_aside, write_bytes
from imgcls.messages import Setting
from imgcls.models.registry import ModelSpec
from imgcls.parallel import usable_cores
from imgcls.training.precision import Speedup, decide

LOGGER = logging.getLogger(__name__)

RETRIES: Final = 2
"""Number of times that a task is repeated whose worker or node was lost."""

CONNECT_LIMIT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """The CPU threads and GPUs of one training, and where its pixels come from, which each node decides by its disk.

    ``devices`` are the GPUs of all nodes or, without any, the cores: as many processes can train one model.
    ``weights`` are the files of weights that are already in the cluster's object store.
    """

    threads: int
    gpus: int
    devices: int = 1
    address: str = ""
    store: StoreConfig = DEFAULT_STORE
    weights: dict[object, Any] = field(default_factory=dict)

    def remote(self, function: Callable[..., Any], **more: Any) -> Any:  # noqa: ANN401 - Ray's function and options
        """Return a function as a task of the cluster, with further options of Ray."""
        import ray  # noqa: PLC0415 - optional

        options: dict[str, Any] = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": RETRIES, **more}
        if self.gpus:
            # A process of its own, with which memory and statistics of a GPU end.
            options["max_calls"] = 1
        return ray.remote(**options)(function)


@contextmanager
def connected(address: str, *, jobs: int, store: StoreConfig = DEFAULT_STORE) -> Iterator[Cluster]:
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
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        gpus = int(sum(node.get("GPU", 0) for node in resources))
        if 0 < gpus < jobs:
            raise ConfigError(Setting("jobs", jobs), f": the cluster has {gpus} GPU(s), and each training takes one")
        # Any node may receive a training, so the node with the fewest cores determines the threads of all.
        at_once = -(-jobs // len(resources))
        cores = int(min(node.get("CPU", 1) for node in resources))
        yield Cluster(
            threads=max(1, cores // at_once),
            gpus=1 if gpus else 0,
            devices=gpus or int(sum(node.get("CPU", 0) for node in resources)),
            address=address,
            store=store,
        )
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


def parcel_of(task: Task, cluster: Cluster) -> tuple[ray_tasks.Parcel, Any]:
    """Return a task without what only this machine has, and its weights in the object store, once for all tasks.

    Its data set is named by its absolute path, under which every node needs it.
    """
    import ray  # noqa: PLC0415

    file = task.spec.weights.file
    if file not in cluster.weights:
        cluster.weights[file] = ray.put(None if file is None else Path(file).read_bytes())
    labels = None if task.labels is None else absolute(task.labels)
    spec = replace(task.spec, weights=replace(task.spec.weights, file=None))
    sent = replace(task, spec=spec, data=absolute(task.data), labels=labels)
    return ray_tasks.Parcel(task=sent, store=cluster.store), cluster.weights[file]


def decide_there(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig, *, cluster: Cluster) -> Precision:
    """Return the precision of a training on the cluster; ``auto`` is decided once, on one of its nodes."""
    # Whether the nodes have a requested precision is not known here: without it, the run fails.
    if train.precision != "auto":
        return train.precision

    def measure(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup | None:
        import ray  # noqa: PLC0415

        # Without the path of the weights, which a worker may not have; a step takes the same time from random ones.
        bare = replace(spec, weights=replace(spec.weights, file=None))
        there = cluster.remote(ray_tasks.measure_speedup)
        try:
            measured: Speedup | None = ray.get(there.remote(bare, loader, train))
        except ray.exceptions.RayError as error:
            LOGGER.warning("the cluster could not choose a precision: %s", (str(error).splitlines() or [""])[-1])
            return None
        return measured

    # Kept here for all runs of this cluster: its nodes must not decide differently for the seeds of one row.
    return decide(spec, loader, train, cache=default_cache(), place=f"ray {cluster.address}", measure=measure)


def collected(task: Task, files: ray_tasks.Files) -> RunRecord:
    """Write the files of a run that has ended, and return its record."""
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
    if record.status == "ok":
        # Only now, and not after a failure: the same command resumes from it.
        task.paths.state(task.run_id).unlink(missing_ok=True)
    return record


def failed(task: Task, error: Exception, started: dt.datetime) -> RunRecord:
    """Return the failed record of a run that an error has ended there; the log names the node, which it does not."""
    if isinstance(error, ray_tasks.NodeError):
        return local.write_failed(task, f"NodeError: {error.neutral}", started, line=str(error))
    reason = failures.neutral(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}", {})
    return local.write_failed(task, f"RunError: stopped on the cluster ({reason})", started)


def received(sent: ray_tasks.Sent | Exception, task: Task, started: dt.datetime) -> RunRecord | None:
    """Write what a run has sent: return its record if it has ended; otherwise its state is stored."""
    if isinstance(sent, Exception):
        return failed(task, sent, started)
    if sent.ended:
        return collected(task, sent.files)
    write_state(sent.files, task)
    return None


def write_state(files: ray_tasks.Files, task: Task) -> None:
    """Keep the state of a training on the cluster: one file, as its weights and its progress belong together."""

    def write(path: Path) -> None:
        # Uncompressed: weights hardly become smaller.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    write_aside(task.paths.state(task.run_id), write)


def read_state(task: Task) -> ray_tasks.Files | None:
    """Return the stored state of a training on the cluster; None if there is none, or if it is damaged."""
    path = task.paths.state(task.run_id)
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        return None
    except zipfile.BadZipFile as error:
        LOGGER.warning("artifacts/.states/%s is damaged (%s): the run starts again", path.name, error)
        return None


def write_files(files: ray_tasks.Files, results: Path) -> None:
    """Write files into the results folder."""
    # Records and outcomes last: their existence means that the files they refer to are complete.
    for name in sorted(files, key=lambda name: (name.startswith("records/"), name.endswith((OUTCOME, ".json")))):
        write_bytes(files[name], results / name)
