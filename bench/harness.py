"""Carry out a plan: one process a run, then latency alone on the machine, then the leaderboard."""

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import cells, failures, leaderboard, locks, progress, rounds
from bench.combining import session_bests
from bench.config import Paths
from bench.environment import Environment, read_environment
from bench.findings import Findings
from bench.latency import PROTOCOL_VERSION, QUICK, Protocol
from bench.launchers import launch
from bench.measurements import Check, Measurement
from bench.measuring import Subject
from bench.pictures import find_pictures, remember_place
from bench.plan import Task, finished_record, make_record, record_file, write_task
from bench.records import (
    OUTCOME,
    SCHEMA_VERSION,
    Latency,
    RunRecord,
    read_if_whole,
    read_records,
    record_path,
    write_json,
)
from imgcls.card import Card, read_card
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError
from imgcls.runtimes import ONNX


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """What came of a plan: whether all went well, and what the leaderboard that was written shows."""

    ok: bool
    found: list[Findings]


def run_all(tasks: Sequence[Task], console: Console, train: Train = train_here) -> Finished:
    """Carry out every task that is not done, measure, write the leaderboard; return what it shows."""
    records = train(tasks, console)
    done = [record for record in records if record.status == "ok"]
    results = tasks[0].paths.results
    for task in tasks:
        remember_place(task)
    measured = [
        measure_all(waiting, tasks[0].paths, console, protocol=QUICK, runtime=runtime)
        for runtime, waiting in _waiting(done, tasks[0].environment.machine)
    ]
    found = leaderboard.write(results, warn=console.print)
    return Finished(ok=all(measured) and len(done) == len(records), found=found)


def _waiting(records: Sequence[RunRecord], machine: str) -> list[tuple[RuntimeConfig, list[RunRecord]]]:
    """Sort the records that lack figures by what they lack: one that failed is tried again."""
    waiting: dict[RuntimeConfig, list[RunRecord]] = {}
    for record in records:
        rows = record.latency[machine].measurements if machine in record.latency else ()
        measured = {(row.runtime, row.num_threads) for row in rows if row.samples_ms}
        config = record.config.runtime
        lacking = tuple(name for name in config.runtimes if (name, config.threads) not in measured)
        if lacking:
            waiting.setdefault(replace(config, runtimes=lacking), []).append(record)
    return list(waiting.items())


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


def measure_all(
    records: Sequence[RunRecord], paths: Paths, console: Console, *, protocol: Protocol, runtime: RuntimeConfig
) -> bool:
    """Measure the artifacts of some records alone on the machine; True where every model has figures everywhere."""
    here = [record for record in records if _has_artifacts(record, paths, console)]
    if not here:
        return not records
    environment = read_environment()
    # Auditing and caching keep the cores busy: not beside another's measurement, nor while others wait for this one.
    with _title_until_held(partial(locks.machine_shared, purpose="measure"), console):
        job = _prepare(here, paths, console, protocol=protocol, runtime=runtime, environment=environment)
    with _title_until_held(locks.machine_alone, console):
        found = rounds.carry_out(job, console)
    for record in here:
        rows = tuple(found.rows.get(record.train_id, ()))
        _say(record, rows, console)
        checks = tuple(found.checks.get(record.train_id, ()))
        _merge(record, rows, checks, environment=environment, results=paths.results)
    return len(here) == len(records) and all(
        row.samples_ms for rows in found.rows.values() for row in rows if (row.kind, row.batch_size) == ("host", 1)
    )


def _prepare(  # noqa: PLR0913 - what a job is made of
    records: Sequence[RunRecord],
    paths: Paths,
    console: Console,
    *,
    protocol: Protocol,
    runtime: RuntimeConfig,
    environment: Environment,
) -> rounds.Job:
    """Return all that is measured, with its images found and cached."""
    look = any(rounds.to_check(protocol, name) for name in runtime.runtimes)
    return rounds.make_job(
        _models(records, paths, console, look=look),
        runtime,
        protocol,
        artifacts=paths.results / "artifacts",
        commit=environment.git_commit,
        earlier_anchors_ms=_earlier_anchors(paths.results, environment.machine),
    )


@contextlib.contextmanager
def _title_until_held(lock: Callable[..., contextlib.AbstractContextManager[None]], console: Console) -> Iterator[None]:
    """Hold a lock of the machine; the title says that the measurement waits until it is held."""
    with contextlib.ExitStack() as wait:
        wait.enter_context(progress.waiting(console, "waiting to measure"))
        with lock(say=console.print):
            wait.close()
            yield


def _has_artifacts(record: RunRecord, paths: Paths, console: Console) -> bool:
    if (paths.artifacts(record.train_id) / OUTCOME).exists():
        return True
    console.print(f"  {record.config.model}: no artifacts here to measure; --force trains again", markup=False)
    return False


def _models(records: Sequence[RunRecord], paths: Paths, console: Console, *, look: bool) -> list[rounds.Model]:
    """Give each training once, however many records share it; ``look`` for its images where a check wants them."""
    models = {}
    for record in records:
        if record.train_id in models:
            continue
        assert record.outcome is not None
        found = find_pictures(record, paths, console) if look else ""
        if isinstance(found, str) and look:
            console.print(f"  {record.config.model}: no parity, int8 or file times: {found}", markup=False)
        models[record.train_id] = rounds.Model(
            subject=Subject(
                train_id=record.train_id,
                folder=str(paths.artifacts(record.train_id)),
                image_size=record.outcome.model.image_size,
                files=() if isinstance(found, str) else found.test_files,
                card=None if isinstance(found, str) else _card(paths.artifacts(record.train_id) / ONNX),
            ),
            name=f"{record.config.model} ({record.dataset.name})",
            onnx_sha256=record.outcome.artifact.sha256,
            pictures=None if isinstance(found, str) else found.pictures,
        )
    return list(models.values())


def _card(path: Path) -> Card | None:
    """Return an exported model's card; None if it cannot be read, for which the model's check gives the reason."""
    try:
        return read_card(path)
    except ConfigError:
        return None


def _earlier_anchors(results: Path, machine: str) -> tuple[float, ...]:
    """Return the usual best anchor of each earlier session of this protocol on a machine, oldest first."""
    rows = [
        row
        for record in read_records(results, warn=lambda _line: None)
        if machine in record.latency
        for row in record.latency[machine].measurements
        if row.protocol_version == PROTOCOL_VERSION
    ]
    return session_bests(rows)


def _say(record: RunRecord, rows: Sequence[Measurement], console: Console) -> None:
    for row in rows:
        if row.kind == "host":
            console.print(f"  {record.config.model} on {row.runtime}: {cells.latency_cell(row, {})}", markup=False)


def _merge(
    record: RunRecord,
    rows: tuple[Measurement, ...],
    checks: tuple[Check, ...],
    *,
    environment: Environment,
    results: Path,
) -> None:
    """Put this machine's measurements into the record on disk; those of other runtimes, threads and machines stay."""
    with locks.record_lock(results, record.run_id):
        path = record_path(results, record)
        current = read_if_whole(path) or record
        before = current.latency.get(environment.machine, Latency(environment=environment))
        renewed = {(row.runtime, row.num_threads) for row in rows}
        failed = {(row.runtime, None) for row in rows}  # rows of older protocols that failed know no threads
        kept = tuple(row for row in before.measurements if (row.runtime, row.num_threads) not in renewed | failed)
        checked = {check.runtime for check in checks}
        still = tuple(check for check in before.checks if check.runtime not in checked)
        found = Latency(environment=environment, measurements=kept + rows, checks=still + checks)
        write_json(replace(current, schema_version=SCHEMA_VERSION).with_latency(found), path)
