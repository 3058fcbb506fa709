"""Trainings of a tiny model on noise whose brightness is its class."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.data.loaders import Source
from imgcls.models.building import build_model
from imgcls.models.registry import ModelSpec, resolve_spec
from imgcls.models.weights import random_weights
from imgcls.training.events import EpochResult, silent
from imgcls.training.loop import train
from imgcls.training.plan import Training, TrainingPlan

MODEL = ArchitectureConfig(dropout=0.3)
CPU = torch.device("cpu")
PX = 32
"""The size of the images: as large as the network needs, because most tests of training train several times."""


@functools.cache
def spec() -> ModelSpec:
    return resolve_spec("test_efficientnet", LoaderConfig(image_size=PX), random_weights)


def source(count: int, seed: int, px: int = PX) -> Source:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 100, (count, px, px, 3)) + 50 * labels[:, None, None, None]
    return Source(pixels=pixels.astype(np.uint8), indices=np.arange(count), labels=labels)


def setting(
    folder: Path, *, train: TrainConfig | None = None, epochs: int = 3, lr: float = 1e-2, **changes: Any
) -> TrainingPlan:
    """Return the plan of a training on one thread of the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    train = train or TrainConfig(epochs=epochs, lr=lr, lr_patience=0)
    plan = TrainingPlan(
        spec=spec(),
        num_classes=3,
        train_source=source(40, 1),
        val_source=source(15, 2),
        loader=LoaderConfig(image_size=PX, batch_size=8),
        architecture=MODEL,
        train=replace(train, device="cpu", train_threads=1),
        seed=0,
        folder=folder,
        report=silent,
    )
    return replace(plan, **changes)


def run(chosen: TrainingPlan) -> Training:
    torch.manual_seed(chosen.seed)
    return train(build_model(spec(), MODEL, num_classes=3), chosen)


def same(first: Training, second: Training) -> bool:
    def plain(history: tuple[EpochResult, ...]) -> list[tuple[float, ...]]:
        return [(e.train_loss, e.val_loss, e.val_top1_accuracy, e.lr) for e in history]

    equal = all(torch.equal(tensor, second.state[key]) for key, tensor in first.state.items())
    return equal and plain(first.history) == plain(second.history) and first.best_epoch == second.best_epoch
