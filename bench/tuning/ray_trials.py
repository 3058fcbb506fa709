"""Trials on a Ray cluster: the task of a Ray worker, and the threads of the caller that supervise the trials."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from bench.records import locks
from bench.runs.on_ray.ray_cluster import Cluster, parcel_of
from bench.runs.on_ray.ray_tasks import NodeError, Parcel, prepare_there, streamed, unpacked
from bench.runs.plan import Task
from bench.tuning.objective import Fitted, OnProgress, TrialProgress, pruned, run_trial
from bench.tuning.search import POLL_S, Evaluate, SweepTask, rungs_of, work
from bench.tuning.storage import open_storage
from bench.tuning.study import Show
from imgcls.errors import RunError

LOGGER = logging.getLogger(__name__)


def try_setting(
    parcel: Parcel, weights: bytes | None, rungs: tuple[float, ...]
) -> Iterator[TrialProgress | Fitted | Exception]:
    """Run one trial in a Ray worker: yield its progress, and its result or error last.

    The trial stops when the generator is closed.
    """
    stopped = threading.Event()
    with unpacked(parcel, weights) as task:

        def work(send: Callable[[TrialProgress | Fitted], None]) -> Fitted:
            def on_progress(at: TrialProgress) -> bool:
                send(at)
                return stopped.is_set()

            prepared = prepare_there(task, parcel.store)
            # Ray may have started the worker on a machine where a latency measurement runs.
            with locks.machine_shared():
                return run_trial(task, prepared, on_progress, rungs=rungs, stop=stopped.is_set)

        yield from streamed(work, stopped)


def evaluate_there(sweep: SweepTask, cluster: Cluster) -> Evaluate:
    """Return a function that runs a trial on the cluster."""
    import ray  # noqa: PLC0415

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        # Streaming, so that each score arrives while the trial runs: the pruner decides here, beside the storage.
        there = cluster.remote(try_setting, num_returns="streaming")
        events = there.remote(*parcel_of(task, cluster), rungs_of(sweep))
        for ref in events:
            event = ray.get(ref)
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
