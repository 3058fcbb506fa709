"""The objective of a study: train on train, score on val at the rungs and at the end; test is never read."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor

from bench.runs import execution
from bench.runs.plan import Task
from imgcls.config import TrainConfig
from imgcls.data.prepared import Prepared
from imgcls.errors import NonFiniteLossError, OutOfMemoryError
from imgcls.training.events import EpochResult, HeadFit, Rung, Step

RUNGS: Final = (1 / 4, 1 / 2)
"""Fractions of a trial's own steps at which the pruner may compare it with the others."""

Ended = Literal["complete", "pruned", "diverged", "out of memory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialProgress:
    """Progress of a trial: the share of its steps, val top-1 accuracy at that point, and the cost of this attempt."""

    fraction: float
    val_top1_accuracy: float
    at_rung: bool
    images: int
    train_time_s: float


OnProgress = Callable[[TrialProgress], bool]
"""Receives the progress, and returns whether the trial must stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """Result of a trial: how it ended, its cost, and, if complete, the score and weights of its selected epoch."""

    ended: Ended
    images: int
    train_time_s: float
    reason: str | None = None
    val_top1_accuracy: float | None = None
    state: dict[str, Tensor] | None = None


def rungs_for(epochs: int) -> tuple[float, ...]:
    """Return the rungs of a study with trials of up to ``epochs``: those at least one epoch into the longest trial."""
    # Earlier, the running averages of batch norm and the optimizer's first steps affect a score more than the setting
    # does: rungs after half an epoch pruned most trials of short studies.
    return tuple(rung for rung in RUNGS if rung * epochs >= 1)


class _StoppedError(Exception):
    """The trial must stop: it is pruned, or its caller has gone."""


class _Meter:
    """Receives the events of the training loop, reports the trial's progress, and sums its cost."""

    def __init__(self, on_progress: OnProgress, train: TrainConfig, stop: Callable[[], bool]) -> None:
        self._on_progress, self._train, self._stop = on_progress, train, stop
        self._images, self._time_s = 0, 0.0
        self._step: Step | None = None

    @property
    def images(self) -> int:
        """Number of images trained on in this attempt, including those of an incomplete epoch."""
        return self._images + (self._step.images if self._step else 0)

    @property
    def train_time_s(self) -> float:
        """Seconds of training steps in this attempt."""
        return self._time_s + (self._step.train_time_s if self._step else 0.0)

    def __call__(self, event: Step | Rung | EpochResult | HeadFit) -> None:
        """Report rungs and ends of epochs; raises _StoppedError if the trial must stop."""
        if isinstance(event, Step):
            # A step contains the totals of its epoch, so that the last one is enough.
            self._step = event
            if self._stop():
                raise _StoppedError
        elif isinstance(event, HeadFit):
            # A pass without gradients, as the training images that cost the same.
            self._images += event.images // self._train.passes_per_image
            self._time_s += event.head_time_s
        elif isinstance(event, Rung):
            self._tell(event.fraction, event.val_top1_accuracy, at_rung=True)
        else:
            self._images, self._time_s = self._images + event.images, self._time_s + event.train_time_s
            self._step = None
            self._tell(event.epoch / self._train.epochs, event.val_top1_accuracy, at_rung=False)

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
    """Train one setting and score its selected epoch.

    Divergence and lack of memory are returned as results; other errors are raised. ``stop`` is called after every step.
    """
    meter = _Meter(on_progress, task.config.train, stop)
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
    except OutOfMemoryError as error:
        return _early(meter, "out of memory", str(error))
    finally:
        # Not reached if the process is killed: the retry resumes from these checkpoints.
        shutil.rmtree(task.paths.artifacts(task.train_id), ignore_errors=True)
    return Fitted(
        ended="complete",
        val_top1_accuracy=training.history[training.best_epoch - 1].val_top1_accuracy,
        images=meter.images,
        train_time_s=meter.train_time_s,
        state=training.state,
    )


def pruned(*, images: int, train_time_s: float) -> Fitted:
    """Return the result of a pruned trial."""
    reason = "scored below the other trials at the same fraction of its steps"
    return Fitted(ended="pruned", reason=reason, images=images, train_time_s=train_time_s)


def _early(meter: _Meter, ended: Ended, reason: str) -> Fitted:
    return Fitted(ended=ended, reason=reason, images=meter.images, train_time_s=meter.train_time_s)
