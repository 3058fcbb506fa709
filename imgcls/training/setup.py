"""Input and result of the training loop."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imgcls.config import ArchitectureConfig, Device, LoaderConfig, TrainConfig, parse_budget
from imgcls.data.augment import Normalisation
from imgcls.data.loaders import Source
from imgcls.errors import ConfigError
from imgcls.parallel import usable_cores
from imgcls.training.events import EpochResult, Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Result of a training; ``state`` are the weights of the selected epoch, without the auxiliary head.

    ``head_time_s`` is the time of the classifier's own fit before the first epoch; 0 if there was none.
    """

    history: tuple[EpochResult, ...]
    best_epoch: int
    steps: int
    resumed_from: tuple[int, ...]
    state: dict[str, Tensor]
    head_time_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """Input of the training loop besides the model; its configs have the same names in run configs and records."""

    num_classes: int
    train_source: Source
    val_source: Source
    normalisation: Normalisation
    loader: LoaderConfig
    architecture: ArchitectureConfig
    train: TrainConfig
    seed: int
    device: torch.device
    folder: Path
    report: Report
    rungs: tuple[float, ...] = ()
    """Fractions of the run's steps after which the val split is also scored, within epochs, for a pruner."""
    gmacs: float | None = None
    """1e9 multiply-accumulates of a forward pass per image; needed only for a budget of compute."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch; a last batch of one image is dropped."""
        return len(range(0, len(self.train_source) - 1, self.loader.batch_size))

    @property
    def total_steps(self) -> int | None:
        """Number of steps of the whole training, the nearest to its budget; None if that is a time."""
        quantity, amount = parse_budget(self.train.budget or f"epochs={self.train.epochs}")
        if quantity == "minutes":
            return None
        if quantity == "epochs":
            return int(amount) * self.steps_per_epoch
        images = amount
        if quantity == "tmacs":
            assert self.gmacs is not None, "fit counts them"
            # A step is three forward passes of its images; the classifier's own fit is one, without a backward pass.
            images = 1e3 * amount / (3 * self.gmacs) - self._features / 3
        size, count = self.loader.batch_size, len(self.train_source)
        epochs, rest = divmod(images, count - (count % size == 1))
        return max(1, int(epochs) * self.steps_per_epoch + round(rest / size))

    @property
    def _features(self) -> int:
        """Number of images whose features the classifier is first fitted to."""
        views = self.train.feature_views if self.train.tune_layers == "head-then-all" else 0
        return views * len(self.train_source)

    @property
    def epochs(self) -> int | None:
        """Number of epochs of the whole training, the last one perhaps a part; None if the budget is a time."""
        return None if self.total_steps is None else -(-self.total_steps // self.steps_per_epoch)


def resolve_train(train: TrainConfig, *, cuda: bool) -> TrainConfig:
    """Replace the device ``auto`` and 0 threads by what the machine has, so that a record states what ran.

    ``cuda`` states whether the machine that trains has a CUDA device. Raises ConfigError if CUDA is requested without
    one.
    """
    if train.device == "cuda" and not cuda:
        message = "--device cuda: no CUDA device here; use --device cpu or auto"
        raise ConfigError(message)
    device: Device = train.device
    if device == "auto":
        device = "cuda" if cuda else "cpu"
    return replace(train, device=device, train_threads=train.train_threads or usable_cores())


def mixed(*parts: int) -> int:
    """Return a 63-bit seed that depends on all ``parts``."""
    # Not their sum: (seed 0, epoch 1) and (seed 1, epoch 0) must not draw the same numbers.
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
