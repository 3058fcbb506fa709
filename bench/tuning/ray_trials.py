"""Trials on a Ray cluster: the task of a Ray worker, and the threads of the caller that supervise the trials."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.records import locks
from bench.runs.on_ray.ray_cluster import RETRIES, Cluster, parcel_of
from bench.runs.on_ray.ray_tasks import Files, NodeError, Parcel, prepare_there, state_of, streamed, unpacked
from bench.runs.plan import Task
from bench.tuning.objective import Fitted, OnProgress, TrialProgress, pruned, run_trial
from bench.tuning.search import POLL_S, Evaluate, SweepTask, rungs_of, work
from bench.tuning.storage import open_storage
from bench.tuning.study import Show
from imgcls.errors import RunError

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """The progress of a trial at the end of an epoch, and the files from which it can resume."""

    progress: TrialProgress
    files: Files


Report = TrialProgress | Epoch | Fitted
"""What a trial sends."""


def try_setting(
    parcel: Parcel, weights: bytes | None, rungs: tuple[float, ...], state: Files | None
) -> Iterator[Report | Exception]:
    """Run one trial in a Ray worker: yield its progress, and its result or error last.

    The trial stops when the generator is closed.
    """
    stopped = threading.Event()
    with unpacked(parcel, weights, state) as task:

        def work(send: Callable[[Report], None]) -> Report:
            def on_progress(at: TrialProgress) -> bool:
                files = {} if at.at_rung else state_of(task)
                send(Epoch(progress=at, files=files) if files else at)
                return stopped.is_set()

            prepared = prepare_there(task, parcel.store)
            # Ray may have started the worker on a machine where a latency measurement runs.
            with locks.machine_shared():
                return run_trial(task, prepared, on_progress, rungs=rungs, stop=stopped.is_set)

        yield from streamed(work, stopped)


def evaluate_there(sweep: SweepTask, cluster: Cluster) -> Evaluate:
    """Return a function that runs a trial on the cluster; one whose node is lost continues from its last epoch."""
    import ray  # noqa: PLC0415

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        for events, event in _reports(sweep, task, cluster):
            if isinstance(event, Fitted):
                return event
            if isinstance(event, NodeError):
                LOGGER.error("  failed: %s", event)
                raise RunError(event.neutral)
            if isinstance(event, Exception):
                raise event
            if on_progress(event):
                ray.cancel(events)
                return pruned(images=event.images, train_time_s=event.train_time_s)
        message = "the trial ended on the cluster without reporting"
        raise RunError(message)

    return evaluate


def _reports(
    sweep: SweepTask, task: Task, cluster: Cluster
) -> Iterator[tuple[Any, TrialProgress | Fitted | Exception]]:
    """Run a trial, again from its last epoch if its worker or node is lost; yield Ray's generator and each report.

    Reports contain the cost of all attempts, less what one had done since its last report.
    """
    import ray  # noqa: PLC0415

    # Streaming, so that each score arrives while the trial runs: the pruner decides here, beside the storage. Not
    # repeated by Ray, which would start from the beginning.
    there = cluster.remote(try_setting, num_returns="streaming", max_retries=0)
    state: Files | None = None
    lost, images, train_time_s = 0, 0, 0.0
    while True:
        events = there.remote(*parcel_of(task, cluster), rungs_of(sweep), state)
        before_images, before_s = images, train_time_s
        try:
            for ref in events:
                event: Report | Exception = ray.get(ref)
                if isinstance(event, Epoch):
                    state, event = event.files, event.progress
                if isinstance(event, TrialProgress | Fitted):
                    images, train_time_s = before_images + event.images, before_s + event.train_time_s
                    event = replace(event, images=images, train_time_s=train_time_s)
                yield events, event
        except ray.exceptions.RayError as error:
            lost += 1
            if isinstance(error, ray.exceptions.RayTaskError) or lost > RETRIES:
                raise
            LOGGER.warning("a trial was lost on the cluster (%s); it continues elsewhere", type(error).__name__)
        else:
            return


def threads(sweep: SweepTask, show: Show, *, cluster: Cluster, jobs: int) -> None:
    """Run ``jobs`` trials at a time on the cluster until the budget is spent.

    A thread of this process supervises each of them.
    """
    # Threads here and not Optuna on the workers, which need no access to the database that way.
    errors: list[Exception] = []

    def look_after() -> None:
        try:
            work(sweep, open_storage(sweep.url), evaluate_there(sweep, cluster))
        except Exception as error:  # noqa: BLE001 - logged below; the other threads continue
            errors.append(error)

    at_work = [threading.Thread(target=look_after, daemon=True) for _ in range(jobs)]
    for thread in at_work:
        thread.start()
    while any(thread.is_alive() for thread in at_work):
        show()
        time.sleep(POLL_S)
    for error in errors:
        LOGGER.error("stopped: %s", error)
