"""A measurement session: checks of every model in every runtime, then rounds; an interrupted session is resumed."""

import datetime as dt
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import progress
from bench.latency.checks import refusal
from bench.latency.cold_start import CheckTask
from bench.latency.protocol import PROTOCOL_VERSION, Protocol
from bench.latency.round_worker import Begun, RoundTask, Subject, Timed
from bench.latency.rows import Stamp, anchors, combine, reference_anchor, usual_best
from bench.latency.worker import LOST_DEVICE, WORKER
from bench.processes.starting import launch
from bench.records.ids import hash_of
from bench.records.measurements import Check, Inputs, Measurement
from bench.records.paths import Pictures
from bench.records.store import write_json
from bench.runs import failures
from imgcls.config import RuntimeConfig
from imgcls.inference.runtimes import ONNX_FP16, ONNX_INT8, RUNTIMES

CHECKED_BY_THE_RUN: Final = ("pytorch-cpu", "onnxruntime-cpu")
"""Runtimes that a session of one round does not check, because the run itself has compared their logits."""

CHECK_S: Final = 8.0
"""Expected duration of a check, for the display of the remaining time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A trained model to measure, with the digest of its exported file from the record, and its images if available.

    ``inputs`` are those of its parity checks; with "synthetic" it has no images, and its files are used as they are.
    """

    subject: Subject
    name: str
    onnx_sha256: str
    pictures: Pictures | None
    inputs: Inputs = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionResult:
    """The checks and rows of a session, by train_id."""

    checks: dict[str, list[Check]] = field(default_factory=dict)
    rows: dict[str, list[Measurement]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is measured in one session; ``folder`` keeps finished parts until the session is complete.

    ``earlier_anchors_ms`` are the usual best anchors of earlier sessions on this machine, oldest first.
    """

    models: tuple[Model, ...]
    config: RuntimeConfig
    protocol: Protocol
    folder: Path
    commit: str | None
    earlier_anchors_ms: tuple[float, ...]


def make_job(  # noqa: PLR0913 - the fields of a job
    models: Sequence[Model],
    config: RuntimeConfig,
    protocol: Protocol,
    *,
    folder: Path,
    commit: str | None,
    earlier_anchors_ms: tuple[float, ...],
) -> Job:
    """Return a job that keeps its finished parts in a subfolder of ``folder``."""
    # The subfolder is named by everything that the parts depend on, the commit included, so that a session never
    # resumes one of other models, settings or code.
    subjects = [(model.subject.train_id, model.onnx_sha256, model.inputs) for model in models]
    identity = [PROTOCOL_VERSION, protocol, config, subjects, commit]
    return Job(
        models=tuple(models),
        config=config,
        protocol=protocol,
        folder=folder / hash_of(identity),
        commit=commit,
        earlier_anchors_ms=earlier_anchors_ms,
    )


def carry_out(job: Job) -> SessionResult:
    """Check and time all models; finished parts of an interrupted call are read. The caller holds the machine lock."""
    job.folder.mkdir(parents=True, exist_ok=True)
    # Written before anything is measured, because it contains the start time of the session.
    _stamp(job)
    combinations = [
        (runtime, model) for runtime in job.config.runtimes for model in job.models if to_check(job.protocol, runtime)
    ]
    round_s = len(job.models) * job.protocol.model_s
    expected_s = CHECK_S * len(combinations) + round_s * job.protocol.rounds * len(job.config.runtimes)
    session, step = SessionResult(), progress.timing(expected_s)
    for runtime, model in combinations:
        session.checks.setdefault(model.subject.train_id, []).append(_checked(job, runtime, model))
        step(f"checked {model.name} on {runtime}", CHECK_S)
    timed: dict[str, dict[int, list[Timed]]] = {runtime: {} for runtime in job.config.runtimes}
    # All runtimes within a round, in rotated order: noise that lasts for minutes then affects all of them alike, so
    # that ratios within a round can be compared, and none of them is always first.
    for number in range(job.protocol.rounds):
        for runtime in _rotated(job.config.runtimes, number):
            timed[runtime][number] = _round(job, runtime, number, session)
            step(f"round {number + 1} of {job.protocol.rounds}, {runtime}", round_s)
    _combine(job, timed, session)
    shutil.rmtree(job.folder)
    return session


def _stamp(job: Job) -> Stamp:
    """Return the id, start time and commit of this session, which stay the same after an interruption."""
    file = job.folder / "session.json"
    if not file.exists():
        began = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        write_json(Stamp(session_id=uuid.uuid4().hex[:16], measured_at=began, commit=job.commit), file)
    return msgspec.json.decode(file.read_bytes(), type=Stamp)


def to_check(protocol: Protocol, runtime: str) -> bool:
    """Return whether models are checked in a runtime before they are timed."""
    return protocol.checked and (protocol.rounds > 1 or runtime not in CHECKED_BY_THE_RUN)


def _rotated(items: Sequence[Any], by: int) -> tuple[Any, ...]:
    by %= len(items) or 1
    return (*items[by:], *items[:by])


def _checked(job: Job, runtime: str, model: Model) -> Check:
    """Check a model in a runtime in a fresh process, after converting its file if the runtime needs that."""
    result_file = job.folder / f"check-{runtime}-{model.subject.train_id}.json"
    if result_file.exists():
        return msgspec.json.decode(result_file.read_bytes(), type=Check)
    task = CheckTask(
        runtime=runtime,
        folder=model.subject.folder,
        image_size=model.subject.image_size,
        threads=job.config.threads,
        onnx_sha256=model.onnx_sha256,
        result_file=str(result_file),
        pictures=model.pictures,
        inputs=model.inputs,
    )
    task_file = job.folder / "check.task"
    write_json(task, task_file)
    if model.inputs == "test" and RUNTIMES[runtime].file in {ONNX_INT8, ONNX_FP16}:
        # Not in the process of the check, whose cold start must not find the libraries of the conversion loaded.
        launch([WORKER, "convert", str(task_file)])
    reason = refusal(runtime, Path(task.folder)) or failures.killed(launch([WORKER, "check", str(task_file)]))
    if not result_file.exists():
        precision = RUNTIMES[runtime].precision
        write_json(
            Check(
                runtime=runtime,
                status="failed",
                protocol_version=PROTOCOL_VERSION,
                precision=precision,
                reason=reason,
                inputs=model.inputs,
            ),
            result_file,
        )
    return msgspec.json.decode(result_file.read_bytes(), type=Check)


def _round(job: Job, runtime: str, number: int, session: SessionResult) -> list[Timed]:
    """Time all models that passed their check, in an order that is rotated by the round."""
    result_file = job.folder / f"round-{number}-{runtime}.json"
    if result_file.exists():
        return msgspec.json.decode(result_file.read_bytes(), type=list[Timed])
    rows, waiting = [], []
    for model in _rotated(job.models, number):
        checks = [check for check in session.checks.get(model.subject.train_id, []) if check.runtime == runtime]
        reason = checks[0].reason if checks else refusal(runtime, Path(model.subject.folder))
        if reason is not None:
            no_device = bool(checks) and checks[0].status == "not measured"
            row = Timed(train_id=model.subject.train_id, kind="host", batch_size=1)
            rows.append(replace(row, reason=reason, no_device=no_device))
        else:
            waiting.append(model.subject)
    rows += _time(job, runtime, tuple(waiting))
    write_json(rows, result_file)
    return rows


def _time(job: Job, runtime: str, subjects: tuple[Subject, ...]) -> list[Timed]:
    """Run the process of a round; if it ends at a model, record the reason and continue with the next models."""
    # Rows arrive one by one, so that those from before a kill are kept.
    rows: list[Timed] = []
    while subjects:
        task_file = job.folder / f"{os.getpid()}.task"
        write_json(
            RoundTask(runtime=runtime, subjects=subjects, threads=job.config.threads, protocol=job.protocol), task_file
        )
        begun: list[Begun] = []

        # ``begun`` is bound as a default: the function must not see the list of a later pass of the loop.
        def receive(result: bytes, begun: list[Begun] = begun) -> None:
            content = msgspec.json.decode(result, type=dict[str, Any])
            if "begun" in content:
                begun.append(msgspec.convert(content, Begun))
            else:
                rows.append(msgspec.convert(content, Timed))

        status = launch([WORKER, "measure", str(task_file)], receive)
        if status == 0:
            return rows
        # Without a message, the process was killed before its first row.
        last = begun[-1] if begun else Begun(begun=subjects[0].train_id, kind="host", batch_size=1)
        if status != LOST_DEVICE:  # then it has reported the reason itself
            reason = f"{failures.killed(status)} at batch {last.batch_size}"
            rows.append(Timed(train_id=last.begun, kind=last.kind, batch_size=last.batch_size, reason=reason))
        reached = [subject.train_id for subject in subjects].index(last.begun)
        subjects = subjects[reached + 1 :]
    return rows


def _combine(job: Job, timed: dict[str, dict[int, list[Timed]]], session: SessionResult) -> None:
    seen = [value for rounds in timed.values() for value in anchors(rounds.values())]
    # One reference for all runtimes, because the anchor is a property of the machine.
    reference_ms = reference_anchor(job.earlier_anchors_ms, usual_best(seen))
    for runtime, rounds in timed.items():
        rows = combine(
            runtime,
            rounds,
            protocol=job.protocol,
            threads=job.config.threads,
            anchor_ms=reference_ms,
            stamp=_stamp(job),
        )
        for train_id, made in rows.items():
            session.rows.setdefault(train_id, []).extend(made)
