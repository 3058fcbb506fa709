"""One run: ``fit`` trains, and ``run_one`` also evaluates and exports. ``fit`` does not receive the test split."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from bench import progress
from bench.records.environment import peak_memory_bytes, read_environment, watch_others
from bench.records.schema import ArtifactInfo, ModelInfo, Outcome, Scores, TrainingInfo
from bench.records.store import write_json
from bench.runs import derived
from bench.runs.artifacts import whole_outcome
from bench.runs.plan import Task
from imgcls.config import StoreConfig
from imgcls.data.audit import audit_dataset
from imgcls.data.loaders import Source
from imgcls.data.prepared import Prepared
from imgcls.data.prepared import prepare as prepare_data
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from imgcls.data.stores.choice import choose_store
from imgcls.errors import DataError
from imgcls.evaluation.calibration import calibrate
from imgcls.evaluation.forward import predict_split, reference_logits
from imgcls.evaluation.metrics import confusion_matrix, score
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import Temperature
from imgcls.files import write_aside
from imgcls.inference.export import export_checked, predict_synthetic
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models import complexity
from imgcls.models.building import load_deployed, load_trained, memory_format, save_trained
from imgcls.models.operators import COUNTING
from imgcls.models.weights import sha256_of
from imgcls.training import fitting, ranks
from imgcls.training.events import EpochResult, HeadFit, Report, Rung, Step, silent
from imgcls.training.plan import Training, TrainingPlan

LOGGER = logging.getLogger(__name__)


class ChangedDataError(DataError):
    """The data are not those of the plan."""


def prepare(task: Task, store: StoreConfig | None = None) -> Prepared:
    """Load, audit, split and cache the data of a task; a stored audit and cache are read.

    ``store`` chooses by this machine's disk where the pixels come from; None: as the task says, which was planned for
    it. Raises ChangedDataError if the data are not those of the plan.
    """
    cache, resize = task.paths.cache, task.spec.resize
    dataset = load_dataset(task.data, labels=task.labels, cache=cache)
    audit = audit_dataset(dataset, cache=cache)
    splits = make_splits(audit, task.config.split)
    if splits.digest != task.dataset.split_digest:
        message = "the photos changed after the plan of this run; repeat the command"
        raise ChangedDataError(message)
    chosen = task.store if store is None else choose_store(audit, resize, cache=cache, config=store)
    count = progress.counting(f"caching {resize.size} px")
    return prepare_data(audit, splits, resize, root=dataset.root, cache=cache, store=chosen, progress=count)


def fit(  # noqa: PLR0913 - what a sweep and a race add to a training
    task: Task,
    *,
    train_source: Source,
    val_source: Source,
    report: Report,
    rungs: tuple[float, ...] = (),
    pause_after: int | None = None,
) -> Training:
    """Build the model from its seed and train it, without the test split, with the other processes of the run.

    The training pauses after a number of epochs, if it is given, and a later call continues it.
    """
    config = task.config
    if ranks.leads():
        ranks.of_first(TRAIN)
    plan = TrainingPlan(
        spec=task.spec,
        num_classes=len(task.dataset.class_names),
        train_source=train_source,
        val_source=val_source,
        loader=config.loader,
        architecture=config.architecture,
        train=config.train,
        seed=config.seed,
        folder=task.paths.artifacts(task.train_id),
        report=report,
        rungs=rungs,
        pause_after=pause_after,
    )
    return fitting.fit(plan)


TRAIN: Final = "train"
"""What the first process of a run tells the others when it begins to train."""


def assist(task: Task, prepared: Prepared | None = None) -> None:
    """Train with the first process of a run, if it does: it alone evaluates, exports and records."""
    if ranks.of_first("") == TRAIN:
        prepared = prepared or prepare(task)
        fit(task, train_source=prepared.source("train"), val_source=prepared.source("val"), report=silent)
        # The first process compares the time of all processes of the run with that of the machine.
        ranks.of_first("")


Saved = Callable[[], None]
"""Called after each epoch of a training, when its state is written."""


def unwatched() -> None:
    """Do nothing with the state of a training."""


def run_one(task: Task, prepared: Prepared | None = None, *, saved: Saved = unwatched) -> Outcome:
    """Train, evaluate on test once, export and check parity; a training that is complete is read instead."""
    folder = task.paths.artifacts(task.train_id)
    done = task.paths.outcome(task.train_id)
    # Several runs can share a training, for example with other runtimes to time.
    if (outcome := whole_outcome(task.paths, task.train_id)) is not None:
        return outcome
    if done.exists():
        # Damaged: nothing that lies there is used, as predictions and weights must be of one training.
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = prepared or prepare(task)
    train = task.config.train
    info = _trained(task, prepared, saved) if task.ensemble is None else derived.combine(task, task.ensemble)
    device = torch.device(train.device)
    # val too, because the temperature is fitted on it.
    val, test = (
        predict_split(folder / WEIGHTS, prepared, split, spec=task.spec, device=device) for split in ("val", "test")
    )
    scores = replace(_score(val=val, test=test), train_metrics=_train_metrics(task, prepared))
    outcome = Outcome(
        # Of this machine, which may not be the caller's: Ray copies the packages to its workers without their git
        # repository, so that the commit is that of the caller's code.
        environment=replace(
            read_environment(), git_commit=task.environment.git_commit, git_dirty=task.environment.git_dirty
        ),
        model=_model_info(task),
        training=info,
        metrics=scores,
        artifact=_export(task, prepared, test, scores),
    )
    # Last: the existence of this file means that all artifacts are complete.
    write_json(outcome, done)
    return outcome


def _trained(task: Task, prepared: Prepared, saved: Saved) -> TrainingInfo:
    """Train, or adjust a finished training; write the weights, and return the cost."""
    if task.adjusts is None:
        report = _reporting(task, saved)
        others = watch_others(with_siblings=task.config.train.devices != 1)
        training = fit(task, train_source=prepared.source("train"), val_source=prepared.source("val"), report=report)
        state, info = training.state, _training_info(task, training, others()[0])
    else:
        state, info = derived.adjusted(task, task.adjusts)
    num_classes = len(task.dataset.class_names)
    write_aside(
        task.paths.artifacts(task.train_id) / WEIGHTS,
        lambda path: save_trained(state, task.spec, num_classes=num_classes, path=path),
    )
    return info


def _reporting(task: Task, saved: Saved) -> Report:
    log = progress.training(task.config.model)

    def report(event: Step | Rung | EpochResult | HeadFit) -> None:
        log(event)
        if isinstance(event, EpochResult):
            saved()

    return report


def _score(*, val: Predictions, test: Predictions) -> Scores:
    return Scores(
        calibration=calibrate(val=(val.logits, val.labels), test=(test.logits, test.labels)),
        val_metrics=score(val.logits, val.labels),
        test_metrics=score(test.logits, test.labels),
        test_confusion_matrix=confusion_matrix(test.logits, test.labels),
    )


def _train_metrics(task: Task, prepared: Prepared) -> dict[str, float]:
    """Return the metrics on as many random train images as there are in val, whose gap to val shows overfitting."""
    source = prepared.source("train")
    number = min(len(source), len(prepared.source("val")))
    # Seed 0 for all runs: models are scored on the same images.
    rows = np.sort(np.random.default_rng(0).permutation(len(source))[:number])
    sample = replace(source, indices=source.indices[rows], labels=source.labels[rows])
    weights = task.paths.artifacts(task.train_id) / WEIGHTS
    logits = reference_logits(weights, sample, spec=task.spec, device=torch.device(task.config.train.device))
    return score(logits, sample.labels)


def _export(task: Task, prepared: Prepared, test: Predictions, scores: Scores) -> ArtifactInfo:
    LOGGER.info("  exporting to ONNX and checking it on the test split")
    folder = task.paths.artifacts(task.train_id)
    assert scores.calibration is not None, "_score fits it"
    calibration = scores.calibration
    temperature = Temperature(value=calibration.temperature, uncalibrated_reason=calibration.uncalibrated_reason)
    parity = export_checked(folder, task.spec, prepared, test, temperature=temperature)
    predict_synthetic(folder, task.spec, device=torch.device(task.config.train.device))
    return ArtifactInfo(
        size_bytes=(folder / ONNX).stat().st_size,
        checkpoint_size_bytes=(folder / WEIGHTS).stat().st_size,
        sha256=sha256_of(folder / ONNX),
        parity=parity,
        checkpoint_sha256=sha256_of(folder / WEIGHTS),
    )


def _model_info(task: Task) -> ModelInfo:
    spec = task.spec
    # Without the auxiliary head that a training may have had.
    file = task.paths.artifacts(task.train_id) / WEIGHTS
    trained = complexity.count(load_trained(file), spec.resize.size)
    counted = complexity.count(load_deployed(file), spec.resize.size)
    return ModelInfo(
        name=spec.name,
        timm_name=spec.timm_name,
        init=spec.weights.init,
        weights_tag=spec.weights.tag,
        weights_sha256=spec.weights.sha256,
        weights_revision=spec.weights.revision,
        image_size=spec.resize.size,
        interpolation=spec.resize.interpolation,
        crop_pct=spec.resize.crop_pct,
        mean=spec.normalisation.mean,
        std=spec.normalisation.std,
        notes=spec.notes,
        num_params=counted.num_params,
        gmacs=counted.gmacs,
        uncounted_operators=counted.uncounted_operators,
        train_num_params=trained.num_params,
        train_gmacs=trained.gmacs,
        counting=COUNTING,
    )


def _training_info(task: Task, training: Training, others_share: float) -> TrainingInfo:
    history = training.history
    epochs_s = sum(epoch.train_time_s for epoch in history)
    channels_last = memory_format(task.spec.structure, task.spec.resize.size) is torch.channels_last
    cuda = task.config.train.device == "cuda"
    return TrainingInfo(
        epochs=len(history),
        steps=training.steps,
        best_epoch=training.best_epoch,
        resumed_from=training.resumed_from,
        train_time_s=training.head_time_s + epochs_s,
        eval_time_s=sum(epoch.eval_time_s for epoch in history),
        # Without evaluation, whose share depends on the size of val, and without the classifier pre-fit.
        train_img_per_s=sum(epoch.images for epoch in history) / epochs_s,
        num_threads=torch.get_num_threads(),
        device=task.config.train.device,
        memory_format="channels_last" if channels_last else "contiguous",
        peak_memory_bytes=peak_memory_bytes(),
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated() if cuda else None,
        history=history,
        others_share=others_share,
        head_time_s=training.head_time_s,
        head_images=training.head_images,
        classifier_fit=training.classifier_fit,
    )
