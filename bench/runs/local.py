"""Execution of planned runs on this machine."""

import datetime as dt
import logging
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import msgspec

from bench.processes.forking import ForkServer
from bench.processes.starting import Group, launch, shared_out
from bench.records import locks
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import read_if_whole, write_with_digest
from bench.runs import failures
from bench.runs.artifacts import restore
from bench.runs.plan import Probe, Task, finished_record, make_record, record_file, write_task
from bench.runs.worker import SEVERAL, WORKER
from imgcls.config import LoaderConfig, Precision, TrainConfig
from imgcls.messages import Message, Part, Setting
from imgcls.models.registry import ModelSpec
from imgcls.training.precision import Speedup, decide

LOGGER = logging.getLogger(__name__)

Train = Callable[[Sequence[Task]], list[RunRecord]]
"""Carries out the tasks that are not done, on this machine or on a cluster, and returns all records."""


def train_here(tasks: Sequence[Task], *, jobs: int = 1) -> list[RunRecord]:
    """Carry out tasks one after the other, each in a process of its own; on GPUs, ``jobs`` at a time."""
    # A process for each, so that a crash or a lack of memory ends one run only. On a CPU, each has all cores.
    titles = [f"[{number}/{len(tasks)}] {title_of(task)}" for number, task in enumerate(tasks, start=1)]
    devices = shared_out(min(jobs, len(tasks)), tasks[0].config.train.device) if jobs > 1 else []
    if not any(devices):
        with closing(ForkServer(WORKER)) as server:
            return [_run(task, title, server) for task, title in zip(tasks, titles, strict=True)]
    return _side_by_side(tasks, titles, devices)


def _side_by_side(tasks: Sequence[Task], titles: Sequence[str], devices: Sequence[str | None]) -> list[RunRecord]:
    """Carry out as many tasks at a time as there are ``devices``."""
    group = Group()
    servers = [ForkServer(WORKER, device=device, group=group) for device in devices]
    free: queue.SimpleQueue[ForkServer] = queue.SimpleQueue()
    for server in servers:
        free.put(server)

    def carry_out(titled: tuple[Task, str]) -> RunRecord:
        server = free.get()
        try:
            return _run(*titled, server)
        finally:
            free.put(server)

    pool = ThreadPoolExecutor(len(devices))
    records: dict[str, RunRecord] = {}
    try:
        # Those that adjust the training of another run come after it.
        for later in (False, True):
            part = [titled for titled in zip(tasks, titles, strict=True) if (titled[0].adjusts is not None) == later]
            records |= {record.run_id: record for record in pool.map(carry_out, part)}
        return [records[task.run_id] for task in tasks]
    except BaseException:  # KeyboardInterrupt is not an Exception
        pool.shutdown(wait=False, cancel_futures=True)
        group.end()
        raise
    finally:
        pool.shutdown()
        for server in servers:
            server.close()


def _run(task: Task, title: str, server: ForkServer) -> RunRecord:
    if (done := done_already(task, title)) is not None:
        return done
    LOGGER.info(title)
    before, started = read_if_whole(record_file(task)), dt.datetime.now(dt.UTC)
    task_file = task.paths.task(task.run_id)
    write_task(task, task_file)
    devices, errors = task.config.train.devices, list[bytes]()
    threads = task.config.train.threads_per_device
    if devices == 1:
        status = server.run("run", task_file, errors.append, threads=threads)
    else:
        # They see all devices, of which each takes its own.
        status = launch([WORKER, SEVERAL, str(task_file), str(devices)], errors.append, threads=threads)
    task_file.unlink(missing_ok=True)
    if server.group is not None and server.group.ended:
        # Interrupted, as a whole: the run has not failed, and the same command continues it.
        raise KeyboardInterrupt
    record = read_if_whole(record_file(task))
    # Otherwise the process ended before it wrote a record, or one of several did that writes none.
    if status in {0, 1} and not errors and record is not None and record != before:
        return record
    return write_failed(task, msgspec.json.decode(errors[0]) if errors else failures.killed(status), started)


def title_of(task: Task) -> str:
    """Return the title of a run for log lines."""
    tuned = f", tuned by {task.tuning.study}" if task.tuning else ""
    return f"{task.config.model}, seed {task.config.seed}, init: {task.spec.weights.init}{tuned}"


def done_already(task: Task, title: str) -> RunRecord | None:
    """Return the record of a task that is done, and log it; None if the task must be carried out."""
    before = finished_record(task)
    if before is None or task.force:
        return None
    # Also if the code has changed: with the commit in a run's id, every commit would repeat all trainings.
    LOGGER.info(Message((f"{title}: already done", *_other_code(before, task))))
    return before


def write_failed(task: Task, error: str, started: dt.datetime, *, line: str | None = None) -> RunRecord:
    """Return the failed record of a run whose process did not write one.

    ``line`` is logged in place of the error, with names that a record must not have. The record is written unless it
    would replace the result from before a repetition: that stays until another one is whole.
    """
    LOGGER.error("  failed: %s", line or error)
    duration_s = (dt.datetime.now(dt.UTC) - started).total_seconds()
    record = make_record(task, started=started, duration_s=duration_s, outcome=None, error=error)
    with locks.training_lock(task.paths.results, task.train_id):
        restore(task.paths, task.train_id)
        if finished_record(task) is not None:
            LOGGER.warning("  the result from before this repetition is kept")
        else:
            write_with_digest(record, record_file(task))
    return record


def _other_code(record: RunRecord, task: Task) -> tuple[Part, ...]:
    then, now = record.environment.git_commit, task.environment.git_commit
    if then == now:
        return ()
    return (f" (by other code, commit {(then or 'unknown')[:8]}; ", Setting("force", value=True), " repeats it)")


def decide_here(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig, *, paths: Paths) -> Precision:
    """Return the precision of a training on this machine: ``auto`` is decided alone on it, in a process of its own.

    Raises ConfigError if the device lacks it.
    """

    def measure(spec: ModelSpec, loader: LoaderConfig, train: TrainConfig) -> Speedup | None:
        # As in ``_run``: a lack of memory ends that process only, which also has the threads and memory of a training.
        file, results = paths.task(f"precision-{spec.architecture}"), list[bytes]()
        write_task(Probe(spec=spec, loader=loader, train=train), file)
        launch([WORKER, "precision", str(file)], results.append, threads=train.train_threads)
        file.unlink(missing_ok=True)
        return msgspec.json.decode(results[-1], type=Speedup) if results else None

    alone = partial(locks.machine_alone, purpose="choose a precision")
    return decide(spec, loader, train, cache=paths.cache, measure=measure, alone=alone)
