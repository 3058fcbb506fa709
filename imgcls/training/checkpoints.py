"""Checkpoints of a training: complete after a kill at any time, and sufficient to resume with the same result."""

import pickle  # for its error only: no pickle is read
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import torch
from safetensors.torch import save_file
from timm.utils.model_ema import ModelEmaV3
from torch import nn

from imgcls.config import Select
from imgcls.errors import RunError
from imgcls.files import write_aside
from imgcls.models.building import storable
from imgcls.training.events import EpochResult, FitMethod

STATE_FILE: Final = "state.pt"

NOT_A_STATE: Final = (
    pickle.UnpicklingError,
    msgspec.ValidationError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What torch raises for other files, and for states of other networks."""

BEST_FILES: Final = "best-*.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """The objects whose state a checkpoint contains."""

    model: nn.Module
    network: nn.Module
    """The model as it is called in training: itself, or wrapped to average the gradients of several processes."""
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    ema: ModelEmaV3 | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The network whose predictions count: the average of the weights, if there is one."""
        return self.model if self.ema is None else self.ema.module


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What a training has done so far: its epochs, the epochs after which it was stopped, and the classifier's fit."""

    history: tuple[EpochResult, ...] = ()
    resumed: tuple[int, ...] = ()
    head_time_s: float = 0.0
    head_images: int = 0
    classifier_fit: FitMethod = "linear"


def selected_epoch(history: Sequence[EpochResult], select: Select) -> int:
    """Return the epoch whose weights are kept: the last, or the first one with the highest validation accuracy."""
    if select == "last":
        return history[-1].epoch
    return max(history, key=lambda result: (result.val_top1_accuracy, -result.epoch)).epoch


def best_file(folder: Path, epoch: int) -> Path:
    """Return the path of the selected weights; the epoch in the name links them to the state that refers to them."""
    return folder / f"best-{epoch:05d}.safetensors"


def save(learner: Learner, folder: Path, progress: Progress, select: Select) -> None:
    """Write the selected weights, if they are of this epoch, and the state, each atomically."""
    # The weights first: after a kill between the two writes, the old state still refers to the old weights.
    best = selected_epoch(progress.history, select)
    if best == len(progress.history):
        weights = storable(learner.evaluated)
        write_aside(best_file(folder, best), lambda path: save_file(weights, path))
    state = {
        "model": learner.model.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "scheduler": learner.scheduler.state_dict(),
        "scaler": learner.scaler.state_dict(),
        "ema": None if learner.ema is None else learner.ema.state_dict(),
        # As plain dicts, because ``restore`` loads with weights_only, which refuses other classes.
        **msgspec.to_builtins(progress),
    }
    write_aside(folder / STATE_FILE, lambda path: torch.save(state, path))
    # Only now does no state refer to the weights of other epochs.
    for file in folder.glob(BEST_FILES):
        if file != best_file(folder, best):
            file.unlink()


def restore(learner: Learner, folder: Path, device: torch.device) -> Progress:
    """Load the state, if any, into ``learner``; return what the interrupted training had done.

    Raises RunError if the file is no such state, or is a pickle of anything but tensors and plain values; none is run.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return Progress()
    try:
        return _restored(learner, torch.load(path, map_location=device, weights_only=True))
    except torch.OutOfMemoryError:
        raise
    except NOT_A_STATE as error:
        # Not torch's own message, which advises to load the file without ``weights_only``.
        reason = type(error).__name__
        message = f"{STATE_FILE} is not the state of this training ({reason}); delete it to train from the start"
        raise RunError(message) from None


def _restored(learner: Learner, state: dict[str, Any]) -> Progress:
    learner.model.load_state_dict(state["model"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.scheduler.load_state_dict(state["scheduler"])
    # A disabled scaler has no state, as checkpoints of versions without one.
    if state.get("scaler"):
        learner.scaler.load_state_dict(state["scaler"])
    if learner.ema is not None:
        learner.ema.load_state_dict(state["ema"])
    # Parts that an older version did not store have their defaults.
    progress = msgspec.convert(state, type=Progress)
    return replace(progress, resumed=(*progress.resumed, len(progress.history)))
