"""Forms of a candidate: what a round of the race trains of it, and which val images that classifies correctly."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench import progress
from bench.records import locks
from bench.runs import execution
from bench.runs.plan import Task
from imgcls.data.prepared import Prepared
from imgcls.errors import NonFiniteLossError, OutOfMemoryError
from imgcls.evaluation.forward import reference_logits
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import save_trained


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What a round trains: a classifier of frozen features of a ``share`` of train, or all layers up to ``epochs``.

    ``of_epochs`` are those of the whole training. Later stages continue the training of earlier ones.
    """

    epochs: int = 0
    of_epochs: int = 0
    share: float = 1.0

    @property
    def trains(self) -> bool:
        """Whether all layers are trained."""
        return self.epochs > 0

    def __str__(self) -> str:
        """Return a description for tables."""
        if self.trains:
            return f"{self.epochs} of {self.of_epochs} epochs"
        return f"frozen features of {100 * self.share:.0f} % of train"


@dataclass(frozen=True, kw_only=True, slots=True)
class FormTask:
    """A form of a candidate, as its process receives it; the task is the candidate's run with seed 0."""

    number: int
    task: Task
    stage: Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A form that was trained: the val images that it classifies correctly, as ``packed``; or why there are none."""

    right: str = ""
    error: str | None = None


def carry_out(form: FormTask, prepared: Prepared | None = None) -> Form:
    """Train a form, continuing an earlier one, and classify val; divergence and lack of memory are results.

    The test split is not read.
    """
    task = form.task
    with locks.training_lock(task.paths.results, task.train_id), locks.machine_shared():
        prepared = prepared or execution.prepare(task)
        try:
            logits = _val_logits(_as_run(form), prepared, form.stage)
        except (NonFiniteLossError, OutOfMemoryError) as error:
            return Form(error=f"{type(error).__name__}: {error}")
    return Form(right=packed(logits.argmax(axis=1) == prepared.source("val").labels))


def _as_run(form: FormTask) -> Task:
    """Return the task whose training is the form: the run itself or, for frozen features, a run of its own."""
    if form.stage.trains:
        return form.task
    train = form.task.config.train
    # The recipe's other values stay; those that have no effect on a classifier alone are refused by its config.
    head = replace(
        train,
        tune_layers="head",
        feature_views=1,
        budget=None,
        precision="fp32",
        train_share=train.train_share * form.stage.share,
    )
    config = replace(form.task.config, train=head)
    return replace(form.task, config=config, train_id=f"{form.task.train_id}.features")


def _val_logits(task: Task, prepared: Prepared, stage: Stage) -> NDArray[np.float32]:
    val = prepared.source("val")
    folder = task.paths.artifacts(task.train_id)
    if stage.trains:
        folder.mkdir(parents=True, exist_ok=True)
    training = execution.fit(
        task,
        train_source=prepared.source("train"),
        val_source=val,
        report=progress.training(task.config.model),
        pause_after=stage.epochs or None,
    )
    with tempfile.TemporaryDirectory() as home:
        weights = Path(home) / WEIGHTS
        save_trained(training.state, task.spec, num_classes=len(task.dataset.class_names), path=weights)
        return reference_logits(weights, val, spec=task.spec, device=torch.device(task.config.train.device))


def packed(right: NDArray[np.bool_]) -> str:
    """Return which images are correct as hexadecimal digits, which a study stores; ``unpacked`` reads them."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, images: int) -> NDArray[np.bool_]:
    """Return which of a number of images are correct ``[N]``."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8), count=images).astype(bool)
