"""What the training loop is given, what it reports on the way, and what it gives back."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.data.augment import Normalisation
from imgcls.data.loaders import Source
from imgcls.training.events import EpochResult, Report


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What training cost and gave; ``state`` is the best epoch's, without the auxiliary head."""

    history: tuple[EpochResult, ...]
    best_epoch: int
    steps: int
    resumed_from: tuple[int, ...]
    state: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSetup:
    """What the loop needs beside the model; the configs have the names that they have in every config and record."""

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
    """Fractions of the run's steps at which validation is scored too, within epochs: what a pruner compares."""

    @property
    def steps_per_epoch(self) -> int:
        """Count the batches of a pass; a last one of one image is dropped."""
        return len(range(0, len(self.train_source) - 1, self.loader.batch_size))
