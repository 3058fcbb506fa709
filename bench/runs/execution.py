"""One run: ``fit`` never sees the test split; ``run_one`` is all of it; ``run_and_record`` keeps what came out."""

import datetime as dt
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import torch
from rich.console import Console

from bench import progress
from bench.records import locks
from bench.records.environment import Environment, peak_memory_bytes, read_environment
from bench.records.schema import ArtifactInfo, ModelInfo, Outcome, RunRecord, Scores, TrainingInfo
from bench.records.store import read_if_whole, write_json
from bench.runs import failures
from bench.runs.plan import Task, finished_record, make_record, record_file
from bench.runs.preparation import Prepared, prepare
from imgcls.data.loaders import Source
from imgcls.evaluation.calibration import calibrate
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import confusion_matrix, per_class, score
from imgcls.evaluation.predictions import (
    Predictions,
    load_predictions,
    predictions_file,
    save_predictions,
    save_summary,
)
from imgcls.files import write_aside
from imgcls.inference.card import OPSET, read_card
from imgcls.inference.export import export_onnx
from imgcls.inference.parity import check_parity
from imgcls.inference.runtimes import ONNX, open_session
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models import complexity
from imgcls.models.building import build_model, load_trained, save_trained
from imgcls.models.weights import sha256_of
from imgcls.training.checkpoints import BEST_FILES, STATE_FILE
from imgcls.training.events import EpochResult, Report, Rung, Step
from imgcls.training.loop import memory_format, train, use_threads
from imgcls.training.setup import Training, TrainingSetup

SUMMARY_LIMIT_BYTES: Final = 1_000_000
"""A summary of predictions over this stays with the artifacts instead of beside its record."""


def fit(
    task: Task, *, train_source: Source, val_source: Source, report: Report, rungs: tuple[float, ...] = ()
) -> Training:
    """Build the model from its seed and train it; the test split is not among the arguments."""
    config = task.config
    use_threads(config.train.train_threads)
    torch.manual_seed(config.seed)
    aux_head = task.spec.has_aux_head and config.architecture.aux_weight > 0
    model = build_model(task.spec, config.architecture, num_classes=len(task.dataset.class_names), aux_head=aux_head)
    setup = TrainingSetup(
        train_source=train_source,
        val_source=val_source,
        normalisation=task.spec.normalisation,
        loader=config.loader,
        architecture=config.architecture,
        train=config.train,
        seed=config.seed,
        device=torch.device(config.train.device),
        folder=task.paths.artifacts(task.train_id),
        report=report,
        rungs=rungs,
    )
    return train(model, setup)


def _fit_in_sight(task: Task, prepared: Prepared, console: Console) -> Training:
    """Train with a bar and a line an epoch."""
    config = task.config
    with progress.training(console, config.model, config.train.epochs) as (advance, finish):

        def report(event: Step | Rung | EpochResult) -> None:
            if isinstance(event, EpochResult):
                finish(event)
            elif isinstance(event, Step):
                advance(event.images, event.total_images)

        return fit(task, train_source=prepared.source("train"), val_source=prepared.source("val"), report=report)


def run_one(task: Task, console: Console, prepared: Prepared | None = None) -> Outcome:
    """Train, score on test once, export, check parity; what is done already is read back."""
    folder = task.paths.artifacts(task.train_id)
    done = task.paths.outcome(task.train_id)
    if done.exists():
        return msgspec.json.decode(done.read_bytes(), type=Outcome)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepared or prepare(task, console)
    training = _fit_in_sight(task, prepared, console)
    num_classes = len(task.dataset.class_names)
    write_aside(
        folder / WEIGHTS,
        lambda path: save_trained(training.state, task.spec, num_classes=num_classes, path=path),
    )
    test = _predict(task, prepared, "test")
    scores = _score(task, val=_predict(task, prepared, "val"), test=test)
    outcome = Outcome(
        environment=_environment(task),
        model=_model_info(task),
        training=_training_info(task, training),
        metrics=scores,
        artifact=_export(task, prepared.source("test"), test, console),
    )
    write_json(outcome, done)
    return outcome


def _environment(task: Task) -> Environment:
    """Return where this trained, which may be another machine than the caller's; the code is the caller's."""
    code = task.environment
    return replace(read_environment(), git_commit=code.git_commit, git_dirty=code.git_dirty)


def _predict(task: Task, prepared: Prepared, split: str) -> Predictions:
    """Predict a split with the best weights, once: a resumed run reads its logits back."""
    folder = task.paths.artifacts(task.train_id)
    path = predictions_file(folder, split)
    if not path.exists():
        device = torch.device(task.config.train.device)
        torch.backends.cudnn.allow_tf32 = False
        model = load_trained(folder / WEIGHTS)
        model.to(device).to(memory_format=memory_format(task.spec.resize.size))
        source = prepared.source(split)
        logits = logits_of(model, source, normalisation=task.spec.normalisation, device=device)
        predictions = Predictions(
            image_ids=prepared.image_ids(split),
            labels=source.labels,
            logits=logits,
            groups=prepared.groups(split),
        )
        save_predictions(predictions, path)
    return load_predictions(path)


def _score(task: Task, *, val: Predictions, test: Predictions) -> Scores:
    return Scores(
        calibration=calibrate(val=(val.logits, val.labels), test=(test.logits, test.labels)),
        val_metrics=score(val.logits, val.labels),
        test_metrics=score(test.logits, test.labels),
        test_per_class=per_class(test.logits, test.labels, task.dataset.class_names),
        test_confusion_matrix=confusion_matrix(test.logits, test.labels),
    )


def _export(task: Task, source: Source, test: Predictions, console: Console) -> ArtifactInfo:
    console.print("  exporting to ONNX and checking it on the test split", markup=False)
    folder = task.paths.artifacts(task.train_id)
    path = folder / ONNX
    export_onnx(load_trained(folder / WEIGHTS), task.spec, class_names=task.dataset.class_names, path=path)
    return ArtifactInfo(
        opset=OPSET,
        size_bytes=path.stat().st_size,
        checkpoint_size_bytes=(folder / WEIGHTS).stat().st_size,
        sha256=sha256_of(path),
        parity=check_parity(
            open_session("onnxruntime-cpu", folder, threads=0).run,
            read_card(path),
            pixels=source.pixels,
            rows=source.indices,
            trained=test,
        ),
    )


def _model_info(task: Task) -> ModelInfo:
    spec = task.spec
    model = load_trained(task.paths.artifacts(task.train_id) / WEIGHTS)
    counted = complexity.count(model, spec.resize.size)
    return ModelInfo(
        name=spec.name,
        timm_name=spec.timm_name,
        init=spec.weights.init,
        weights_tag=spec.weights.tag,
        weights_sha256=spec.weights.sha256,
        image_size=spec.resize.size,
        interpolation=spec.resize.interpolation,
        crop_pct=spec.resize.crop_pct,
        mean=spec.normalisation.mean,
        std=spec.normalisation.std,
        notes=spec.notes,
        num_params=counted.num_params,
        gmacs=counted.gmacs,
        uncounted_operators=counted.uncounted_operators,
    )


def _training_info(task: Task, training: Training) -> TrainingInfo:
    history = training.history
    train_time_s = sum(epoch.train_time_s for epoch in history)
    channels_last = memory_format(task.spec.resize.size) is torch.channels_last
    cuda = task.config.train.device == "cuda"
    return TrainingInfo(
        epochs=len(history),
        steps=training.steps,
        best_epoch=training.best_epoch,
        resumed_from=training.resumed_from,
        train_time_s=train_time_s,
        eval_time_s=sum(epoch.eval_time_s for epoch in history),
        train_img_per_s=sum(epoch.images for epoch in history) / train_time_s,
        num_threads=torch.get_num_threads(),
        device=task.config.train.device,
        memory_format="channels_last" if channels_last else "contiguous",
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if cuda else None,
        history=history,
    )


def run_and_record(task: Task, console: Console, prepared: Prepared | None = None) -> RunRecord:
    """Run a task under its lock and write its record, ok or failed."""
    folder = task.paths.artifacts(task.train_id)
    with locks.training_lock(task.paths.results, task.train_id, say=console.print):
        before = read_if_whole(record_file(task))
        if task.force:
            shutil.rmtree(folder, ignore_errors=True)
        elif (done := finished_record(task)) is not None:  # another command's, while this one waited for the lock
            return done
        record = _after(before, _attempt(task, console, prepared), console)
        if record.outcome is not None:
            _keep_summary(task, record.outcome)
        with locks.record_lock(task.paths.results, task.run_id):
            write_json(record, record_file(task))
        if record.outcome is not None:
            for leftover in (folder / STATE_FILE, *folder.glob(BEST_FILES)):
                leftover.unlink(missing_ok=True)
    return record


def _after(before: RunRecord | None, record: RunRecord, console: Console) -> RunRecord:
    """Count that test was scored again; keep the latency figures where the ONNX file came out the same to the byte."""
    if before is None:
        return record
    record = replace(record, test_scorings=before.test_scorings + record.test_scorings)
    if not before.latency or _onnx_of(before) != _onnx_of(record):
        return record
    console.print("  the same ONNX file as before, to the byte: its latency figures are kept", markup=False)
    return replace(record, latency=before.latency)


def _onnx_of(record: RunRecord) -> str | None:
    return record.outcome.artifact.sha256 if record.outcome else None


def _attempt(task: Task, console: Console, prepared: Prepared | None) -> RunRecord:
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    outcome, error = None, None
    try:
        with locks.machine_shared(say=console.print):
            outcome = run_one(task, console, prepared)
    except Exception as failure:  # noqa: BLE001 - whatever went wrong becomes a failed row, with its traceback
        places = {Path(task.data): "DATA", task.paths.results: "RESULTS", task.paths.cache: "CACHE"}
        error = failures.traceback_text(failure, places)
        console.print(f"  failed: {failures.last_line(error)}", markup=False)
    return make_record(task, started=started, duration_s=time.perf_counter() - clock, outcome=outcome, error=error)


def _keep_summary(task: Task, outcome: Outcome) -> None:
    """Write the predictions' summary beside the record, or with the artifacts where it is large."""
    folder = task.paths.artifacts(task.train_id)
    summary = folder / f"{task.run_id}.npz"
    calibration = outcome.metrics.calibration
    temperature = calibration.temperature if calibration else 1.0  # an outcome that was made before version 4
    save_summary(load_predictions(predictions_file(folder, "test")), summary, temperature=temperature)
    if summary.stat().st_size <= SUMMARY_LIMIT_BYTES:
        target = record_file(task).with_suffix(".npz")
        write_aside(target, lambda aside: shutil.copyfile(summary, aside))
        summary.unlink()
