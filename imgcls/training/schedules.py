"""Learning-rate schedules."""

from collections.abc import Callable
from typing import Final

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from imgcls.training.setup import TrainingSetup


def plateau(optimizer: Optimizer, setup: TrainingSetup) -> LRScheduler:
    """Return a schedule, stepped once per epoch, that reduces the rate when the validation loss stops improving."""
    return ReduceLROnPlateau(optimizer, factor=setup.train.lr_factor, patience=setup.train.lr_patience)


def cosine(optimizer: Optimizer, setup: TrainingSetup) -> LRScheduler:
    """Return a schedule, stepped once per batch, that falls to 0 over the run (Loshchilov and Hutter 2017).

    With ``train.warmup``, the rate first rises linearly over that share of the steps (Goyal et al. 2017).
    """
    # Per batch, because in a run of a few epochs steps per epoch would be coarse.
    total = setup.train.epochs * setup.steps_per_epoch
    rising = min(round(setup.train.warmup * total), total - 1)
    falling = CosineAnnealingLR(optimizer, T_max=total - rising)
    if not rising:
        return falling
    warmup = LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
    return SequentialLR(optimizer, [warmup, falling], milestones=[rising])


SCHEDULES: Final[dict[str, Callable[[Optimizer, TrainingSetup], LRScheduler]]] = {
    "plateau": plateau,
    "cosine": cosine,
}
"""Schedules by the name that ``--schedule`` takes."""
