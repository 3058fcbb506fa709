"""Runs on a Ray cluster: each is carried out on a node, and continues on another one if that is lost."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.schema import RunRecord
from bench.runs import local
from bench.runs.on_ray import data_parallel, ray_cluster, ray_tasks
from bench.runs.on_ray.ray_cluster import RETRIES, Cluster
from bench.runs.plan import Task

LOGGER = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class _Run:
    """A run on the cluster: what it sends, as Ray's generator, and how often its node or worker was lost."""

    task: Task
    events: Any
    losses: int = 0


def train(tasks: Sequence[Task], *, cluster: Cluster) -> list[RunRecord]:
    """Carry out the tasks that are not done yet, on the cluster; write their files here, and disconnect.

    A run whose node or worker is lost continues elsewhere from its last epoch; one that only adjusts the logits of a
    training is carried out here. Disconnecting ends a cluster that was
    started here, so that it does not run beside the measurements that follow.
    """
    import ray  # noqa: PLC0415

    records = [local.done_already(task, local.title_of(task)) for task in tasks]
    started = dt.datetime.now(dt.UTC)
    waiting: dict[Any, int] = {}
    runs: dict[int, _Run] = {}
    for number, task in enumerate(tasks):
        if records[number] is not None or task.adjusts is not None:
            continue
        if task.force:
            task.paths.state(task.run_id).unlink(missing_ok=True)
        if task.config.train.devices != 1:
            # One at a time: each may take all devices.
            records[number] = data_parallel.train(task, cluster=cluster, started=started)
            continue
        runs[number] = _Run(task=task, events=_begin(task, cluster))
        waiting[runs[number].events] = number
    while waiting:
        # In the order in which they report: the results of a finished task survive an interruption.
        (events,), _ = ray.wait(list(waiting))
        number = waiting.pop(events)
        records[number] = _next(runs[number], cluster, started)
        if records[number] is None:
            waiting[runs[number].events] = number
    ray.shutdown()
    for number, task in enumerate(tasks):
        if records[number] is None:
            # It adjusts the logits of a training, whose files are on this machine now.
            (records[number],) = local.train_here([task])
    return [record for record in records if record is not None]


def _begin(task: Task, cluster: Cluster) -> Any:  # noqa: ANN401 - Ray's generator
    """Start a run on the cluster, from its stored state if there is one."""
    # Not repeated by Ray, which would start it from its beginning.
    carry_out = cluster.remote(ray_tasks.run, num_returns="streaming", max_retries=0)
    return carry_out.remote(*ray_cluster.parcel_of(task, cluster), ray_cluster.read_state(task))


def _next(run: _Run, cluster: Cluster, started: dt.datetime) -> RunRecord | None:
    """Receive what a run sends next: store its state, or return its record when it has ended."""
    import ray  # noqa: PLC0415

    task = run.task
    try:
        sent: ray_tasks.Sent | Exception = ray.get(next(run.events))
    except (ray.exceptions.RayError, StopIteration) as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        run.losses += 1
        if isinstance(error, ray.exceptions.RayTaskError) or run.losses > RETRIES:
            return local.write_failed(task, f"RunError: lost on the cluster ({reason})", started)
        LOGGER.warning("%s: lost on the cluster (%s); it continues elsewhere", local.title_of(task), reason)
        run.events = _begin(task, cluster)
        return None
    return ray_cluster.received(sent, task, started)
