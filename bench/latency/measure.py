"""Latency measurement of finished runs: preparation beside other runs, then rounds under an exclusive machine lock."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Result of a measurement: the rows of each record, and whether every run was measured in every runtime."""

    rows: tuple[tuple[RunRecord, tuple[Measurement, ...]], ...]
    ok: bool


def measure_all(records: Sequence[RunRecord], paths: Paths, *, protocol: Protocol, runtime: RuntimeConfig) -> Measured:
    """Measure the artifacts of records under an exclusive machine lock, and write the rows into the records."""
    here = [record for record in records if _has_artifacts(record, paths)]
    if not here:
        return Measured(rows=(), ok=not records)
    environment = read_environment()
    # Auditing and caching keep the cores busy, so they must not run beside another measurement; trainings need not wait
    # for them.
    with locks.machine_shared(purpose="measure"):
        job = _prepare(here, paths, protocol=protocol, runtime=runtime, environment=environment)
    with locks.machine_alone():
        found = rounds.carry_out(job)
    for record in here:
        rows = tuple(found.rows.get(record.train_id, ()))
        checks = tuple(found.checks.get(record.train_id, ()))
        _merge(record, rows, checks, environment=environment, results=paths.results)
    # Only batch 1 decides: a larger batch that does not fit in memory is a result, not a failure.
    single = [row for rows in found.rows.values() for row in rows if (row.kind, row.batch_size) == ("host", 1)]
    return Measured(
        rows=tuple((record, tuple(found.rows.get(record.train_id, ()))) for record in here),
        ok=len(here) == len(records) and all(row.samples_ms for row in single),
    )


def _prepare(
    records: Sequence[RunRecord],
    paths: Paths,
    *,
    protocol: Protocol,
    runtime: RuntimeConfig,
    environment: Environment,
) -> rounds.Job:
    """Return the job to measure, with its images located and cached."""
    look = any(rounds.to_check(protocol, name) for name in runtime.runtimes)
    return rounds.make_job(
        _models(records, paths, look=look),
        runtime,
        protocol,
        folder=paths.measuring,
        commit=environment.git_commit,
        earlier_anchors_ms=_earlier_anchors(paths.results, environment.machine),
    )


def _has_artifacts(record: RunRecord, paths: Paths) -> bool:
    if paths.outcome(record.train_id).exists():
        return True
    LOGGER.warning("  %s: no artifacts here to measure; --force trains again", record.config.model)
    return False


def _models(records: Sequence[RunRecord], paths: Paths, *, look: bool) -> list[rounds.Model]:
    """Return the model of each training once, with its images if ``look``; several records may share a training."""
    models = {}
    for record in records:
        if record.train_id in models:
            continue
        assert record.outcome is not None
        images = _images(record, paths) if look else None
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


def _images(record: RunRecord, paths: Paths) -> RunImages | None:
    try:
        return find_images(record, paths)
    except (MissingImagesError, UserError) as error:
        LOGGER.warning("  %s: no parity, int8 or file times: %s", record.config.model, error)
        return None


def _card(path: Path) -> Card | None:
    """Return the card of an exported model, or None if it cannot be read; the check of the model reports the reason."""
    try:
        return read_card(path)
    except ConfigError:
        return None


def _earlier_anchors(results: Path, machine: str) -> tuple[float, ...]:
    """Return the usual best anchor in ms of each earlier session on a machine, oldest first."""
    rows = [
        row
        for record in read_records(results)
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
    """Write measurements of this machine into a record; those of other runtimes, threads and machines are kept."""
    with locks.record_lock(results, record.run_id):
        # Read again under the lock: another command may have replaced the record since the measurement began.
        path = record_path(results, record)
        current = read_if_whole(path) or record
        before = current.latency.get(environment.machine, Latency(environment=environment))
        renewed = {(row.runtime, row.num_threads) for row in rows}
        # Failed rows of older protocols have no number of threads.
        failed = {(row.runtime, None) for row in rows}
        kept = tuple(row for row in before.measurements if (row.runtime, row.num_threads) not in renewed | failed)
        checked = {check.runtime for check in checks}
        still = tuple(check for check in before.checks if check.runtime not in checked)
        found = Latency(environment=environment, measurements=kept + rows, checks=still + checks)
        # The content of an older version was upgraded when it was read.
        write_json(replace(current, schema_version=SCHEMA_VERSION).with_latency(found), path)
