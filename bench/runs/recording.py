"""A run under its lock, and its record, whose status is ok or failed; a repetition that fails replaces no result."""

import datetime as dt
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.records import locks
from bench.records.schema import Outcome, RunRecord
from bench.records.store import read_if_whole, write_with_digest
from bench.runs import failures
from bench.runs.artifacts import discard_former, restore, set_aside
from bench.runs.execution import Saved, run_one, unwatched
from bench.runs.plan import Task, finished_record, make_record, record_file
from imgcls.data.prepared import Prepared
from imgcls.evaluation.predictions import load_predictions, predictions_file, save_summary
from imgcls.files import remove_abandoned, write_aside
from imgcls.models.weights import sha256_of
from imgcls.training import ranks
from imgcls.training.checkpoints import BEST_FILES, STATE_FILE

LOGGER = logging.getLogger(__name__)

SUMMARY_LIMIT_BYTES: Final = 1_000_000
"""Largest summary of predictions that is stored beside its record, which may be in git; larger ones are artifacts."""


def run_and_record(task: Task, prepared: Prepared | None = None, *, saved: Saved = unwatched) -> RunRecord:
    """Carry out a task under its lock, and write and return its record, whose status is ok or failed.

    Raises PeerLostError, without a record, if another process of the run has ended.
    """
    folder = task.paths.artifacts(task.train_id)
    with locks.training_lock(task.paths.results, task.train_id):
        remove_abandoned(folder)
        if task.force:
            set_aside(task.paths, task.train_id)
        else:
            _undo_repetition(task)
            if (done := finished_record(task)) is not None:
                # Another command carried the task out while this one waited for the lock.
                return done
        attempted = _attempt(task, prepared, saved)
        if attempted.outcome is None and restore(task.paths, task.train_id):
            LOGGER.warning("  the result from before this repetition is kept")
            return attempted
        if attempted.outcome is not None:
            attempted = replace(attempted, predictions_sha256=_keep_summary(task, attempted.outcome))
        # The previous record is read under the lock: a measurement may have put figures into it meanwhile.
        with locks.record_lock(task.paths.results, task.run_id):
            record = _after(read_if_whole(record_file(task)), attempted)
            write_with_digest(record, record_file(task))
        if record.outcome is not None:
            # Several runs can share the artifacts, and each is measured elsewhere by its own record.
            write_with_digest(record, task.paths.carried_record(task.train_id, task.run_id))
        # Only now, and not after a failure: the same command resumes from these files.
        if record.outcome is not None:
            for leftover in (folder / STATE_FILE, *folder.glob(BEST_FILES)):
                leftover.unlink(missing_ok=True)
            discard_former(task.paths, task.train_id)
    return record


def _undo_repetition(task: Task) -> None:
    """Bring back the result from before a repetition that was interrupted, with the predictions beside its record."""
    before = read_if_whole(record_file(task))
    if restore(task.paths, task.train_id) and before is not None and before.outcome is not None:
        LOGGER.info("  an earlier repetition was not completed: the result from before it is kept")
        _keep_summary(task, before.outcome)


def _after(before: RunRecord | None, record: RunRecord) -> RunRecord:
    """Add the earlier scorings on test to a record, and keep the earlier latency if the ONNX file is byte-identical."""
    if before is None:
        return record
    record = replace(record, test_scorings=before.test_scorings + record.test_scorings)
    if not before.latency or _onnx_of(before) != _onnx_of(record):
        return record
    LOGGER.info("  the ONNX file is identical to the previous one: its latency figures are kept")
    return replace(record, latency=before.latency)


def _onnx_of(record: RunRecord) -> str | None:
    return record.outcome.artifact.sha256 if record.outcome else None


def _attempt(task: Task, prepared: Prepared | None, saved: Saved) -> RunRecord:
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    outcome, error = None, None
    try:
        with ranks.named_loss(), locks.machine_shared():
            outcome = run_one(task, prepared, saved=saved)
    except ranks.PeerLostError:
        # Whoever started the processes knows why the other one has ended, and records that or continues the run.
        raise
    except Exception as failure:  # noqa: BLE001 - every error becomes a failed row, with its traceback
        # Records may be published, and must not contain paths of this machine.
        folders = {Path(task.data): "DATA", task.paths.results: "RESULTS", task.paths.cache: "CACHE"}
        error = failures.traceback_text(failure, folders)
        LOGGER.error("  failed: %s", failures.last_line(error))  # noqa: TRY400 - the record contains the traceback
    return make_record(task, started=started, duration_s=time.perf_counter() - clock, outcome=outcome, error=error)


def _keep_summary(task: Task, outcome: Outcome) -> str:
    """Write the summary of the test predictions beside the record, or with the artifacts if it is large.

    Returns its SHA-256.
    """
    folder = task.paths.artifacts(task.train_id)
    summary = folder / f"{task.run_id}.npz"
    calibration = outcome.metrics.calibration
    # Outcomes that were stored before schema version 4 have no calibration.
    temperature = calibration.temperature if calibration else 1.0
    save_summary(load_predictions(predictions_file(folder, "test")), summary, temperature=temperature)
    digest = sha256_of(summary)
    if summary.stat().st_size <= SUMMARY_LIMIT_BYTES:
        target = record_file(task).with_suffix(".npz")
        write_aside(target, lambda aside: shutil.copyfile(summary, aside))
        summary.unlink()
    return digest
