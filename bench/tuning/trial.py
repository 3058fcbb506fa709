"""One trial: ``fit`` on train, scored on val at rungs and at its end; the test split is never opened."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from bench.runs import execution
from bench.runs.plan import Task
from imgcls.config import ArchitectureConfig
from imgcls.data.prepared import Prepared
from imgcls.errors import NonFiniteLossError
from imgcls.models import complexity
from imgcls.models.building import build_model
from imgcls.models.registry import ModelSpec
from imgcls.training.events import EpochResult, Rung, Step

RUNGS: Final = (1 / 4, 1 / 2)
"""Fractions of a trial's own steps at which the pruner may compare it with the others."""

OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")

Ended = Literal["complete", "pruned", "diverged", "out of memory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialProgress:
    """Where a trial is: the share of its steps, val top-1 accuracy there, and what this attempt has cost so far."""

    fraction: float
    val_top1_accuracy: float
    at_rung: bool
    images: int
    train_time_s: float


OnProgress = Callable[[TrialProgress], bool]
"""Takes note, and says whether the trial must stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """How a trial ended, what it cost, and the score and weights of its selected epoch where it came to its end."""

    ended: Ended
    images: int
    train_time_s: float
    reason: str | None = None
    val_top1_accuracy: float | None = None
    state: dict[str, Tensor] | None = None


def rungs_for(epochs: int) -> tuple[float, ...]:
    """Return the rungs of a study of trials of up to ``epochs``: those before which the longest has seen all images.

    Earlier, batch norm's averages and a warming optimizer say more about a score than the setting does.
    """
    return tuple(rung for rung in RUNGS if rung * epochs >= 1)


class _StoppedError(Exception):
    """The pruner wants no more of this trial."""


class _Meter:
    """Turn the loop's events into progress and cost."""

    def __init__(self, on_progress: OnProgress, epochs: int, stop: Callable[[], bool]) -> None:
        self._on_progress, self._epochs, self._stop = on_progress, epochs, stop
        self._images, self._time_s = 0, 0.0
        self._step: Step | None = None

    @property
    def images(self) -> int:
        """Count images trained on in this attempt, those of a broken epoch too."""
        return self._images + (self._step.images if self._step else 0)

    @property
    def train_time_s(self) -> float:
        """Sum the seconds of training steps."""
        return self._time_s + (self._step.train_time_s if self._step else 0.0)

    def __call__(self, event: Step | Rung | EpochResult) -> None:
        """Pass on rungs and ends of epochs; raises _StoppedError where the trial must stop."""
        if isinstance(event, Step):
            self._step = event
            if self._stop():
                raise _StoppedError
        elif isinstance(event, Rung):
            self._tell(event.fraction, event.val_top1_accuracy, at_rung=True)
        else:
            self._images, self._time_s = self._images + event.images, self._time_s + event.train_time_s
            self._step = None
            self._tell(event.epoch / self._epochs, event.val_top1_accuracy, at_rung=False)

    def _tell(self, fraction: float, accuracy: float, *, at_rung: bool) -> None:
        progress = TrialProgress(
            fraction=fraction,
            val_top1_accuracy=accuracy,
            at_rung=at_rung,
            images=self.images,
            train_time_s=self.train_time_s,
        )
        if self._on_progress(progress):
            raise _StoppedError


def run_trial(
    task: Task,
    prepared: Prepared,
    on_progress: OnProgress,
    *,
    rungs: tuple[float, ...],
    stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Fit a setting and score its selected epoch; a bad loss and a full memory are ends, not errors.

    ``stop`` is asked after every step.
    """
    meter = _Meter(on_progress, task.config.train.epochs, stop)
    try:
        training = execution.fit(
            task,
            train_source=prepared.source("train"),
            val_source=prepared.source("val"),
            report=meter,
            rungs=rungs,
        )
    except _StoppedError:
        return pruned(images=meter.images, train_time_s=meter.train_time_s)
    except NonFiniteLossError as error:
        return _early(meter, "diverged", str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _early(meter, "out of memory", "out of memory")
    finally:
        shutil.rmtree(task.paths.artifacts(task.train_id), ignore_errors=True)
    return Fitted(
        ended="complete",
        val_top1_accuracy=training.history[training.best_epoch - 1].val_top1_accuracy,
        images=meter.images,
        train_time_s=meter.train_time_s,
        state=training.state,
    )


def pruned(*, images: int, train_time_s: float) -> Fitted:
    """Return the end of a trial that the pruner stopped."""
    reason = "behind others at the same share of its steps"
    return Fitted(ended="pruned", reason=reason, images=images, train_time_s=train_time_s)


def _early(meter: _Meter, ended: Ended, reason: str) -> Fitted:
    return Fitted(ended=ended, reason=reason, images=meter.images, train_time_s=meter.train_time_s)


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell a full memory from other errors: torch has one class for CUDA's, and only words for the host's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)


def macs_per_image(spec: ModelSpec, num_classes: int) -> float:
    """Count the forward multiply-adds of an image; training is taken to cost three times as many."""
    random = replace(spec, weights=replace(spec.weights, file=None))
    model = build_model(random, ArchitectureConfig(), num_classes=num_classes)
    return complexity.count(model, spec.resize.size).gmacs * 1e9
