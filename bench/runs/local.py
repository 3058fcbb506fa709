"""Carry out planned runs on this machine: one process a run."""

import datetime as dt
from collections.abc import Callable, Sequence

from rich.console import Console

from bench.records.schema import RunRecord
from bench.records.store import read_if_whole, write_json
from bench.runs import failures
from bench.runs.plan import Task, finished_record, make_record, record_file, write_task
from bench.runs.processes import launch
from bench.runs.worker import WORKER

Train = Callable[[Sequence[Task], Console], list[RunRecord]]
"""Carries out what is not done, here or on a cluster, and gives the records."""


def train_here(tasks: Sequence[Task], console: Console) -> list[RunRecord]:
    """Carry out tasks one after the other, each in a process of its own."""
    return [_run(task, f"[{number}/{len(tasks)}]", console) for number, task in enumerate(tasks, start=1)]


def _run(task: Task, place: str, console: Console) -> RunRecord:
    title = f"{place} {title_of(task)}"
    if (done := done_already(task, title, console)) is not None:
        return done
    console.print(title, markup=False)
    before, started = read_if_whole(record_file(task)), dt.datetime.now(dt.UTC)
    task_file = task.paths.task(task.run_id)
    write_task(task, task_file)
    status = launch([WORKER, "run", str(task_file)])
    task_file.unlink(missing_ok=True)
    record = read_if_whole(record_file(task))
    if status in {0, 1} and record is not None and record != before:
        return record
    return write_failed(task, failures.killed(status), started, console)


def title_of(task: Task) -> str:
    """Name a run in a line of its own."""
    tuned = f", tuned by {task.tuning.study}" if task.tuning else ""
    return f"{task.config.model}, seed {task.config.seed}, init: {task.spec.weights.init}{tuned}"


def done_already(task: Task, title: str, console: Console) -> RunRecord | None:
    """Return the good record of a task, and say so; None where it must be carried out."""
    before = finished_record(task)
    if before is None or task.force:
        return None
    console.print(f"{title}: done already{_other_code(before, task)}", markup=False)
    return before


def write_failed(task: Task, error: str, started: dt.datetime, console: Console) -> RunRecord:
    """Write the record of a run that could not write its own."""
    console.print(f"  failed: {error}", markup=False)
    duration_s = (dt.datetime.now(dt.UTC) - started).total_seconds()
    record = make_record(task, started=started, duration_s=duration_s, outcome=None, error=error)
    write_json(record, record_file(task))
    return record


def _other_code(record: RunRecord, task: Task) -> str:
    then, now = record.environment.git_commit, task.environment.git_commit
    if then == now:
        return ""
    return f" (by other code, commit {(then or 'unknown')[:8]}; --force repeats it)"
