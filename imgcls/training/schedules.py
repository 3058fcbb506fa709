"""How the learning rate goes on from its start."""

from collections.abc import Callable
from typing import Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from imgcls.training.setup import TrainingSetup


def plateau(optimizer: Optimizer, setup: TrainingSetup) -> LRScheduler:
    """Return a schedule that steps once an epoch: the rate drops when the validation loss stalls."""
    return ReduceLROnPlateau(optimizer, factor=setup.train.lr_factor, patience=setup.train.lr_patience)


def cosine(optimizer: Optimizer, setup: TrainingSetup) -> LRScheduler:
    """Return a schedule that steps once a batch: the rate falls to 0 over the run (Loshchilov and Hutter 2017)."""
    return CosineAnnealingLR(optimizer, T_max=setup.train.epochs * setup.steps_per_epoch)


SCHEDULES: Final[dict[str, Callable[[Optimizer, TrainingSetup], LRScheduler]]] = {
    "plateau": plateau,
    "cosine": cosine,
}
"""Schedules by the name that ``--schedule`` takes."""
