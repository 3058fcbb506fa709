"""Trials on a Ray cluster: the task of a Ray worker, and the threads of the caller that supervise the trials."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.records import locks
from bench.runs.on_ray.ray_cluster import Cluster, parcel_of
from bench.runs.on_ray.ray_tasks import Parcel, unpacked
from bench.runs.plan import Task
from bench.tuning.objective import Fitted, OnProgress, TrialProgress, pruned, run_trial
from bench.tuning.search import POLL_S, Evaluate, SweepTask, rungs_of, work
from bench.tuning.storage import open_storage
from bench.tuning.study import Show
from imgcls.data.prepared import Prepared
from imgcls.errors import RunError

LOGGER = logging.getLogger(__name__)

# ray.cancel only sets the interrupt flag of the worker's main thread, which a wait without a timeout does not notice.
WAIT_S: Final = 0.1


def try_setting(
    parcel: Parcel, pixels: NDArray[np.uint8], weights: bytes | None, rungs: tuple[float, ...]
) -> Iterator[TrialProgress | Fitted | Exception]:
    """Run one trial in a Ray worker: yield its progress, and its result or error last.

    The trial stops when the generator is closed.
    """
    # ``fit`` reports through a callback, which cannot yield; it runs in a thread, and its events pass through a queue.
    events: queue.Queue[TrialProgress | Fitted | Exception] = queue.Queue()
    stopped = threading.Event()
    with unpacked(parcel, pixels, weights) as (task, prepared):
        thread = threading.Thread(target=_fit, args=(task, prepared, rungs, events, stopped), daemon=True)
        thread.start()
        try:
            last = False
            while not last:
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=WAIT_S)
                    last = not isinstance(event, TrialProgress)
                    yield event
        finally:
            stopped.set()
            # The files of the trial must not be removed while the thread still uses them.
            thread.join()


def _fit(
    task: Task,
    prepared: Prepared,
    rungs: tuple[float, ...],
    events: "queue.Queue[TrialProgress | Fitted | Exception]",
    stopped: threading.Event,
) -> None:
    def on_progress(at: TrialProgress) -> bool:
        events.put(at)
        return stopped.is_set()

    try:
        # Ray may have started the worker on a machine where a latency measurement runs.
        with locks.machine_shared():
            events.put(run_trial(task, prepared, on_progress, rungs=rungs, stop=stopped.is_set))
    except Exception as error:  # noqa: BLE001 - raised again by the caller, where it fails the trial
        events.put(error)


def evaluate_there(sweep: SweepTask, cluster: Cluster) -> Evaluate:
    """Return a function that runs a trial on the cluster."""
    import ray  # noqa: PLC0415

    # Streaming, so that each score arrives while the trial runs: the pruner decides here, beside the storage.
    options = cluster.options | {"num_returns": "streaming"}

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        there: Any = ray.remote(try_setting)
        events = there.options(**options).remote(*parcel_of(task, cluster), rungs_of(sweep))
        for ref in events:
            event = ray.get(ref)
            if isinstance(event, Fitted):
                return event
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
