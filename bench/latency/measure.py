"""Latency measurement of finished runs: preparation beside other runs, then rounds under an exclusive machine lock."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.latency import session
from bench.latency.checks import require_exported
from bench.latency.protocol import PROTOCOL_VERSION, Protocol
from bench.latency.round_worker import Subject
from bench.latency.rows import session_bests
from bench.records import locks
from bench.records.copies import Copy
from bench.records.environment import Environment, read_environment
from bench.records.measurements import Measurement
from bench.records.paths import Paths
from bench.records.schema import LATENCY_FILE_VERSION, SCHEMA_VERSION, Latency, LatencyFile, RunRecord
from bench.records.store import read_if_whole, read_latency_file, read_latency_files, record_path, write_with_digest
from bench.runs.images import MissingImagesError, RunImages, find_images
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError, RunError, UserError
from imgcls.inference.card import Card, read_card
from imgcls.inference.runtimes import ONNX
from imgcls.inference.synthetic import SYNTHETIC
from imgcls.messages import Message, Setting

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Result of a measurement: the rows of each record, and whether every run was measured in every runtime."""

    rows: tuple[tuple[RunRecord, tuple[Measurement, ...]], ...]
    ok: bool


def measure_all(
    records: Sequence[RunRecord],
    paths: Paths,
    *,
    protocol: Protocol,
    runtime: RuntimeConfig,
    known: Sequence[RunRecord],
) -> Measured:
    """Measure the artifacts of records under an exclusive machine lock, and write the rows into the records.

    ``known`` are all records of the results folder: the anchor is compared with their sessions on this machine.
    """
    here = []
    for record in records:
        if paths.outcome(record.train_id).exists():
            here.append(record)
        else:
            LOGGER.warning("  %s: no artifacts here to measure; --force trains again", record.config.model)
    if not here:
        return Measured(rows=(), ok=not records)
    environment = read_environment()
    # Auditing and caching keep the cores busy, so they must not run beside another measurement; trainings need not wait
    # for them.
    with locks.machine_shared(purpose="measure"):
        look = any(session.to_check(protocol, name) for name in runtime.runtimes)
        job = session.make_job(
            _models(here, paths, look=look),
            runtime,
            protocol,
            folder=paths.measuring,
            commit=environment.git_commit,
            earlier_anchors_ms=_anchors(record.on(environment.machine) for record in known),
        )
    with locks.machine_alone():
        timed = session.carry_out(job)
    for record in here:
        _merge(record, timed, environment=environment, results=paths.results)
    return _measured(here, timed, complete=len(here) == len(records))


def _measured(records: Sequence[RunRecord], timed: session.SessionResult, *, complete: bool) -> Measured:
    # Only batch 1 decides: a larger batch that does not fit in memory is a result, not a failure.
    single = [row for rows in timed.rows.values() for row in rows if (row.kind, row.batch_size) == ("host", 1)]
    return Measured(
        rows=tuple((record, tuple(timed.rows.get(record.train_id, ()))) for record in records),
        ok=complete and all(row.samples_ms for row in single),
    )


def measure_copies(copies: Sequence[Copy], paths: Paths, *, protocol: Protocol, runtime: RuntimeConfig) -> Measured:
    """Measure copied artifacts, without images, under an exclusive machine lock, and write a latency file for each run.

    Parity is checked on the synthetic inputs.
    """
    environment = read_environment()
    earlier = [file.latency for _, file in read_latency_files(paths.results)]
    job = session.make_job(
        _copied_models(copies),
        runtime,
        protocol,
        folder=paths.measuring,
        commit=environment.git_commit,
        earlier_anchors_ms=_anchors(
            latency for latency in earlier if latency.environment.machine == environment.machine
        ),
    )
    with locks.machine_alone():
        timed = session.carry_out(job)
    records = [copy.record for copy in copies]
    for record in records:
        _write_file(record, timed, environment=environment, results=paths.results)
    return _measured(records, timed, complete=True)


def check_copies(copies: Sequence[Copy]) -> None:
    """Raise ConfigError if no run has the ONNX file that it exported; if some have, the others become failed rows."""
    reasons = []
    for copy in copies:
        try:
            require_exported(copy.folder / ONNX, copy.record.finished.artifact.sha256)
        except (UserError, RunError) as error:
            reasons.append((Setting("artifacts", str(copy.folder)), f": {error}"))
    if len(reasons) == len(copies):
        raise ConfigError(*reasons[0])


def _copied_models(copies: Sequence[Copy]) -> list[session.Model]:
    models = {}
    for copy in copies:
        record, outcome = copy.record, copy.record.finished
        if record.train_id in models:
            continue
        if not (copy.folder / SYNTHETIC).exists():
            text = f"  {record.config.model}: parity is not checked: no {SYNTHETIC} among its artifacts; "
            LOGGER.warning(Message((text, Setting("force", value=True), " on the training machine writes it")))
        size = outcome.model.image_size
        models[record.train_id] = session.Model(
            subject=Subject(train_id=record.train_id, folder=str(copy.folder.absolute()), image_size=size),
            name=f"{record.config.model} ({record.dataset.name})",
            onnx_sha256=outcome.artifact.sha256,
            pictures=None,
            inputs="synthetic",
        )
    return list(models.values())


def _write_file(record: RunRecord, timed: session.SessionResult, *, environment: Environment, results: Path) -> None:
    """Write the latency of a copied run; earlier rows of other runtimes and threads are kept."""
    sha256 = record.finished.artifact.sha256
    path = Paths(results=results).latency_file(environment.machine, record.run_id)
    with locks.record_lock(results, record.run_id):
        before = _earlier(path, sha256) or Latency(environment=environment)
        measured = LatencyFile(
            schema_version=LATENCY_FILE_VERSION,
            run_id=record.run_id,
            train_id=record.train_id,
            onnx_sha256=sha256,
            latency=_renewed(before, record, timed, environment),
        )
        write_with_digest(measured, path)


def _earlier(path: Path, sha256: str) -> Latency | None:
    """Return the latency in an earlier file; None if there is none, or if it is of another ONNX file."""
    try:
        before = read_latency_file(path)
    except (OSError, ValueError):
        return None
    return before.latency if before.onnx_sha256 == sha256 else None


def _models(records: Sequence[RunRecord], paths: Paths, *, look: bool) -> list[session.Model]:
    """Return the model of each training once, with its images if ``look``; several records may share a training."""
    models = {}
    for record in records:
        if record.train_id in models:
            continue
        images = _images(record, paths) if look else None
        folder = paths.artifacts(record.train_id)
        models[record.train_id] = session.Model(
            subject=Subject(
                train_id=record.train_id,
                folder=str(folder),
                image_size=record.finished.model.image_size,
                files=images.test_files if images else (),
                card=_card(folder / ONNX) if images else None,
            ),
            name=f"{record.config.model} ({record.dataset.name})",
            onnx_sha256=record.finished.artifact.sha256,
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


def _anchors(latencies: Iterable[Latency]) -> tuple[float, ...]:
    """Return the usual best anchor in ms of each earlier session on a machine, oldest first."""
    rows = [row for latency in latencies for row in latency.measurements if row.protocol_version == PROTOCOL_VERSION]
    return session_bests(rows)


def _merge(record: RunRecord, timed: session.SessionResult, *, environment: Environment, results: Path) -> None:
    """Write measurements of this machine into a record; those of other machines are kept."""
    with locks.record_lock(results, record.run_id):
        # Read again under the lock: another command may have replaced the record since the measurement began.
        path = record_path(results, record)
        current = read_if_whole(path) or record
        latency = _renewed(current.on(environment.machine), record, timed, environment)
        # The content of an older version was upgraded when it was read.
        write_with_digest(replace(current, schema_version=SCHEMA_VERSION).with_latency(latency), path)


def _renewed(before: Latency, record: RunRecord, timed: session.SessionResult, environment: Environment) -> Latency:
    """Return the latency with new rows and checks of a run; earlier ones of other runtimes and threads are kept."""
    rows, checks = timed.rows.get(record.train_id, ()), timed.checks.get(record.train_id, ())
    renewed = {(row.runtime, row.num_threads) for row in rows}
    # Failed rows of older protocols have no number of threads.
    failed = {(row.runtime, None) for row in rows}
    kept = [row for row in before.measurements if (row.runtime, row.num_threads) not in renewed | failed]
    checked = {check.runtime for check in checks}
    still = [check for check in before.checks if check.runtime not in checked]
    return Latency(environment=environment, measurements=(*kept, *rows), checks=(*still, *checks))
