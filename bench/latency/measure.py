"""Measure finished runs: everything is prepared beside others, then the machine is held alone for the rounds."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from bench import progress
from bench.latency import rounds
from bench.latency.combining import session_bests
from bench.latency.measuring import Subject
from bench.latency.protocol import PROTOCOL_VERSION, Protocol
from bench.records import locks
from bench.records.environment import Environment, read_environment
from bench.records.measurements import Check, Measurement
from bench.records.paths import Paths
from bench.records.schema import SCHEMA_VERSION, Latency, RunRecord
from bench.records.store import read_if_whole, read_records, record_path, write_json
from bench.runs.images import MissingImagesError, RunImages, find_images
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError, UserError
from imgcls.inference.card import Card, read_card
from imgcls.inference.runtimes import ONNX


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a measurement gave: each record's rows, and whether every model has figures everywhere."""

    rows: tuple[tuple[RunRecord, tuple[Measurement, ...]], ...]
    ok: bool


def measure_all(
    records: Sequence[RunRecord], paths: Paths, console: Console, *, protocol: Protocol, runtime: RuntimeConfig
) -> Measured:
    """Measure the artifacts of some records alone on the machine, and put the figures into their records."""
    here = [record for record in records if _has_artifacts(record, paths, console)]
    if not here:
        return Measured(rows=(), ok=not records)
    environment = read_environment()
    # Auditing and caching keep the cores busy: not beside another's measurement, nor while others wait for this one.
    with _title_until_held(partial(locks.machine_shared, purpose="measure"), console):
        job = _prepare(here, paths, console, protocol=protocol, runtime=runtime, environment=environment)
    with _title_until_held(locks.machine_alone, console):
        found = rounds.carry_out(job, console)
    for record in here:
        rows = tuple(found.rows.get(record.train_id, ()))
        checks = tuple(found.checks.get(record.train_id, ()))
        _merge(record, rows, checks, environment=environment, results=paths.results)
    single = [row for rows in found.rows.values() for row in rows if (row.kind, row.batch_size) == ("host", 1)]
    return Measured(
        rows=tuple((record, tuple(found.rows.get(record.train_id, ()))) for record in here),
        ok=len(here) == len(records) and all(row.samples_ms for row in single),
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
        folder=paths.measuring,
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
    if paths.outcome(record.train_id).exists():
        return True
    console.print(f"  {record.config.model}: no artifacts here to measure; --force trains again", markup=False)
    return False


def _models(records: Sequence[RunRecord], paths: Paths, console: Console, *, look: bool) -> list[rounds.Model]:
    """Return each training once, however many records share it; ``look`` for its images if a check wants them."""
    models = {}
    for record in records:
        if record.train_id in models:
            continue
        assert record.outcome is not None
        images = _images(record, paths, console) if look else None
        folder = paths.artifacts(record.train_id)
        models[record.train_id] = rounds.Model(
            subject=Subject(
                train_id=record.train_id,
                folder=str(folder),
                image_size=record.outcome.model.image_size,
                files=images.test_files if images else (),
                card=_card(folder / ONNX) if images else None,
            ),
            name=f"{record.config.model} ({record.dataset.name})",
            onnx_sha256=record.outcome.artifact.sha256,
            pictures=images.pictures if images else None,
        )
    return list(models.values())


def _images(record: RunRecord, paths: Paths, console: Console) -> RunImages | None:
    try:
        return find_images(record, paths, console)
    except (MissingImagesError, UserError) as error:
        console.print(f"  {record.config.model}: no parity, int8 or file times: {error}", markup=False)
        return None


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
