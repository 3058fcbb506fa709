"""Input, budget and result of the training loop."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from imgcls.config import MIN_BATCH, ArchitectureConfig, Device, LoaderConfig, TrainConfig, parse_budget
from imgcls.data.loaders import Source, batch_sizes
from imgcls.devices import NO_DEVICE
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.models.registry import ModelSpec
from imgcls.parallel import usable_cores
from imgcls.training.events import EpochResult, FitMethod, Report

HEAD_EPOCHS: Final = 5
"""Epochs of a classifier that is trained by gradient, because it has no linear heads to be fitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Result of a training; ``state`` are the weights of the selected epoch, without the auxiliary head.

    ``head_time_s`` is the time of the classifier pre-fit before the first epoch, and ``head_images`` the number of
    images that passed the frozen layers for it; 0 if there was none.
    """

    history: tuple[EpochResult, ...]
    best_epoch: int
    steps: int
    resumed_from: tuple[int, ...]
    state: dict[str, Tensor]
    head_time_s: float = 0.0
    head_images: int = 0
    classifier_fit: FitMethod = "linear"


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """The end of a training: a number of steps, and of epochs, the last one perhaps a part; or seconds."""

    steps: int | None = None
    epochs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingPlan:
    """Input of a training; its configs have the same names in run configs and records.

    ``train`` names a device and a number of threads (``resolve_train``). There is no test split.
    """

    spec: ModelSpec
    num_classes: int
    train_source: Source
    val_source: Source
    loader: LoaderConfig
    architecture: ArchitectureConfig
    train: TrainConfig
    seed: int
    folder: Path
    report: Report
    rungs: tuple[float, ...] = ()
    """Fractions of the run's steps after which the val split is also scored, within epochs, for a pruner."""
    pause_after: int | None = None
    """Epochs after which the training pauses, for a later call to continue it; None: it ends by its budget."""
    gmacs: float | None = None
    """1e9 multiply-accumulates of a forward pass per image; needed only for a budget of compute."""
    head_images: int | None = None
    """Images that passed the frozen layers for the classifier pre-fit; None before it is fitted."""

    @property
    def device(self) -> torch.device:
        """The device that trains."""
        return torch.device(self.train.device)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch; a last batch of one image is dropped."""
        return len(batch_sizes(len(self.train_source), self.loader.batch_size))

    @property
    def duration(self) -> Duration:
        """The end of the training by its budget; to be read once, not in every step."""
        quantity, amount = parse_budget(self.train.budget or f"epochs={self.train.epochs}")
        if quantity == "minutes":
            return Duration(seconds=60 * amount)
        steps = int(amount) * self.steps_per_epoch if quantity == "epochs" else self._steps_for(quantity, amount)
        return Duration(steps=steps, epochs=-(-steps // self.steps_per_epoch))

    def _steps_for(self, quantity: str, amount: float) -> int:
        """Return the number of steps that is nearest to a budget of images or of compute."""
        images = amount
        if quantity == "tmacs":
            assert self.gmacs is not None, "fit counts them"
            images = self.train.images_within(amount, gmacs=self.gmacs, features=self._features)
        size, count = self.loader.batch_size, len(self.train_source)
        epochs, rest = divmod(images, count - (count % size == 1))
        return max(1, int(epochs) * self.steps_per_epoch + round(rest / size))

    @property
    def _features(self) -> int:
        """Number of images that pass the frozen layers while the classifier is first fitted, as planned until then."""
        if self.train.tune_layers != "head-then-all":
            return 0
        if self.head_images is not None:
            return self.head_images
        return len(self.train_source) * (self.train.feature_views if self.spec.structure.heads else HEAD_EPOCHS)


@dataclass(kw_only=True, slots=True)
class Spent:
    """What a training has spent: steps, and seconds of steps and of the classifier pre-fit, without evaluation.

    A resumed training starts with what its finished epochs have spent.
    """

    duration: Duration
    steps: int = 0
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """The share of the budget that is spent, 0 to 1."""
        if self.duration.steps is not None:
            return min(self.steps / self.duration.steps, 1.0)
        assert self.duration.seconds is not None, "a budget is a number of steps or a time"
        return min(self.seconds / self.duration.seconds, 1.0)

    @property
    def ended(self) -> bool:
        """Whether the budget is spent."""
        return self.fraction >= 1


def resolve_train(
    train: TrainConfig,
    *,
    cuda: bool,
    unusable: str | None = None,
    available: int | None = None,
    batch_size: int | None = None,
) -> TrainConfig:
    """Replace the device ``auto``, the devices ``auto`` and 0 threads by what the machine has, as a record states them.

    ``cuda`` states whether the machine that trains has a CUDA device that PyTorch can use, and ``unusable`` why it
    cannot use the one that there is; ``available`` is the number of its devices, None: of this machine. Raises
    ConfigError if CUDA is requested without one, and if there are fewer devices than requested, or fewer than two
    images of a batch for each.
    """
    if train.device == "cuda" and not cuda:
        hint = (f": {unusable or NO_DEVICE + ' here'}; use ", Setting("device", "cpu"), " or auto")
        raise ConfigError(Setting("device", "cuda"), *hint)
    device: Device = train.device
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    devices = _devices(train.devices, device, available)
    if batch_size is not None and devices > 1 and batch_size < MIN_BATCH * devices:
        reason = f": a batch of {batch_size} has fewer than {MIN_BATCH} images for each; use at most "
        raise ConfigError(Setting("devices", devices), reason, Setting("devices", batch_size // MIN_BATCH))
    return replace(train, device=device, devices=devices, train_threads=train.train_threads or usable_cores())


def _devices(devices: int | Literal["auto"], device: Device, available: int | None) -> int:
    """Return the number of devices; raises ConfigError if there are fewer than requested."""
    if available is None:
        available = torch.cuda.device_count() if device == "cuda" else usable_cores()
    if devices == "auto":
        # On a CPU one process uses all cores.
        return max(1, available) if device == "cuda" else 1
    if devices > max(1, available):
        kind = "GPU(s)" if device == "cuda" else "CPU core(s)"
        reason = f": there are {available} {kind} where it trains; use at most {available}"
        raise ConfigError(Setting("devices", devices), reason)
    return devices


def mixed(*parts: int) -> int:
    """Return a 63-bit seed that depends on all ``parts``."""
    # Not their sum: (seed 0, epoch 1) and (seed 1, epoch 0) must not draw the same numbers.
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
