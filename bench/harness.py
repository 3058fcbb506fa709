"""Carry out a plan: one process a run, then latency alone on the machine, then the leaderboard."""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import Console

from bench import cells, failures, leaderboard, locks
from bench.launchers import launch
from bench.measuring import MeasureTask
from bench.plan import Task, make_record, record_file, write_task
from bench.records import OUTCOME, Measurement, RunRecord, read_if_whole, record_path, write_json
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError


def check_writable(results: Path) -> None:
    """Raise ConfigError where the results folder cannot be written."""
    probe = results / ".locks" / "writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        message = f"--results {results}: cannot be written ({error.strerror}); give a folder that can"
        raise ConfigError(message) from error


Train = Callable[[Sequence[Task], Console], list[RunRecord]]
"""Carries out what is not done, here or on a cluster, and gives the records."""


def train_here(tasks: Sequence[Task], console: Console) -> list[RunRecord]:
    """Carry out tasks one after the other, each in a process of its own."""
    return [_run(task, f"[{number}/{len(tasks)}]", console) for number, task in enumerate(tasks, start=1)]


def run_all(tasks: Sequence[Task], console: Console, train: Train = train_here) -> bool:
    """Carry out every task that is not done, measure, write the leaderboard; True where all went well."""
    records = train(tasks, console)
    done = [record for record in records if record.status == "ok"]
    results = tasks[0].paths.results
    waiting = [record for record in done if not set(record.config.runtime.runtimes) <= _measured(record)]
    measured = measure_all(waiting, results, console)
    leaderboard.write(results, warn=console.print)
    return measured and len(done) == len(records)


def _measured(record: RunRecord) -> set[str]:
    """Name the runtimes that have figures; one that failed is tried again."""
    failed = {row.runtime for row in record.measurements if row.verdict == "failed"}
    return {row.runtime for row in record.measurements} - failed


def _run(task: Task, place: str, console: Console) -> RunRecord:
    title = f"{place} {title_of(task)}"
    if (done := done_already(task, title, console)) is not None:
        return done
    console.print(title, markup=False)
    before, started = read_if_whole(record_file(task)), dt.datetime.now(dt.UTC)
    task_file = task.paths.results / ".locks" / f"{task.run_id}.{os.getpid()}.task.json"
    write_task(task, task_file)
    status = launch(["bench.worker", "run", str(task_file)])
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
    """Give the good record of a task, and say so; None where it must be carried out."""
    before = read_if_whole(record_file(task))
    if before is None or before.status != "ok" or task.force:
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


def measure_all(
    records: Sequence[RunRecord], results: Path, console: Console, *, runtime: RuntimeConfig | None = None
) -> bool:
    """Measure the runtimes of each record alone on the machine; True where every row has figures."""
    if not records:
        return True
    complete = True
    with locks.machine_alone(say=console.print):
        for record in records:
            config = runtime or record.config.runtime
            rows = [row for name in config.runtimes for row in _measure(record, name, config, results, console)]
            complete = complete and bool(rows) and all(row.verdict != "failed" for row in rows)
            _merge(record, tuple(rows), results)
    return complete


def _measure(
    record: RunRecord, runtime: str, config: RuntimeConfig, results: Path, console: Console
) -> list[Measurement]:
    folder = results / "artifacts" / record.train_id
    assert record.outcome is not None
    if not (folder / OUTCOME).exists():
        console.print(f"  {record.config.model}: no artifacts here to measure; --force trains again", markup=False)
        return []
    question = folder / f"measure-{runtime}.task.json"
    answer = question.with_suffix(".answer")
    task = MeasureTask(
        runtime=runtime,
        folder=str(folder),
        answer=str(answer),
        image_size=record.outcome.model.image_size,
        threads=config.threads,
    )
    write_json(task, question)
    answer.unlink(missing_ok=True)
    status = launch(["bench.worker", "measure", str(question)])
    try:
        rows = msgspec.json.decode(answer.read_bytes(), type=list[Measurement])
    except (OSError, msgspec.MsgspecError):
        rows = _failed_rows(runtime, failures.killed(status))
    for used in (question, answer):
        used.unlink(missing_ok=True)
    _say(record, rows, console)
    return rows


def _failed_rows(runtime: str, reason: str) -> list[Measurement]:
    row = Measurement(runtime=runtime, batch_size=1, verdict="failed", protocol_version=0, reason=reason)
    return [row, replace(row, batch_size=32)]


def _say(record: RunRecord, rows: list[Measurement], console: Console) -> None:
    figures = ", ".join(cells.latency_cell(row) for row in rows)
    console.print(f"  {record.config.model} on {rows[0].runtime}: {figures}", markup=False)


def _merge(record: RunRecord, rows: tuple[Measurement, ...], results: Path) -> None:
    """Put measurements into the record as it is now on disk."""
    if not rows:
        return
    with locks.record_lock(results, record.run_id):
        path = record_path(results, record)
        current = read_if_whole(path) or record
        renewed = {row.runtime for row in rows}
        kept = tuple(row for row in current.measurements if row.runtime not in renewed)
        write_json(replace(current, measurements=kept + rows), path)
