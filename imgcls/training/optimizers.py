"""Optimizers and learning-rate schedules."""

import math
from collections.abc import Callable
from typing import Final

import torch
from timm.optim._optim_factory import create_optimizer_v2
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    ReduceLROnPlateau,
    SequentialLR,
)

from imgcls.config import TrainConfig
from imgcls.training.plan import Spent, TrainingPlan

LEAST_FACTOR: Final = 0.01
"""Factor of the learning rate at the start of a warm-up whose number of steps is not known."""

BETAS: Final = (0.9, 0.999)


def adam(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Return Adam with one learning rate for all parameters."""
    # On two cores, a step with 24 M parameters took 33 ms with the fused implementation, otherwise 135 to 167 ms.
    return torch.optim.Adam(model.parameters(), lr=config.lr, betas=BETAS, weight_decay=config.weight_decay, fused=True)


def adamw(model: nn.Module, config: TrainConfig) -> Optimizer:
    """Return AdamW, with timm's layer-wise learning rates, and weight decay of matrices only."""
    optimizer = create_optimizer_v2(
        model,
        opt="adamw",
        lr=config.lr,
        betas=BETAS,
        weight_decay=config.weight_decay,
        # With 1, timm still makes groups of each layer, whose steps are separate calls.
        layer_decay=config.layer_decay if config.layer_decay < 1 else None,
        fused=True,
    )
    # timm leaves the factors to its own schedules; torch's start from the learning rate of each group.
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_scale", 1.0)
    return optimizer


OPTIMIZERS: Final[dict[str, Callable[[nn.Module, TrainConfig], Optimizer]]] = {
    "adam": adam,
    "adamw": adamw,
}
"""Optimizers by the value of ``TrainConfig.optimizer``."""


def plateau(optimizer: Optimizer, plan: TrainingPlan, spent: Spent) -> LRScheduler:
    """Return a schedule, stepped once per epoch, that reduces the rate when the validation loss stops improving."""
    del spent
    return ReduceLROnPlateau(optimizer, factor=plan.train.lr_factor, patience=plan.train.lr_patience)


def cosine(optimizer: Optimizer, plan: TrainingPlan, spent: Spent) -> LRScheduler:
    """Return a schedule, stepped once per batch, that falls to 0 over the run (Loshchilov and Hutter 2017).

    With ``train.warmup``, the rate first rises linearly over that share of the run (Goyal et al. 2017). The run is that
    of the budget: of its steps or, if it is a time, of the time that is ``spent``.
    """
    total, warmup = spent.duration.steps, plan.train.warmup
    if total is None:
        return LambdaLR(optimizer, lambda _step: _factor(spent.fraction, warmup))
    # Per batch, because in a run of a few epochs steps per epoch would be coarse.
    rising = min(round(warmup * total), total - 1)
    falling = CosineAnnealingLR(optimizer, T_max=total - rising)
    if not rising:
        return falling
    rise = LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
    return SequentialLR(optimizer, [rise, falling], milestones=[rising])


def _factor(fraction: float, warmup: float) -> float:
    """Return the factor of the learning rate after a fraction of the run."""
    if fraction < warmup:
        return max(fraction / warmup, LEAST_FACTOR)
    return (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup))) / 2


SCHEDULES: Final[dict[str, Callable[[Optimizer, TrainingPlan, Spent], LRScheduler]]] = {
    "plateau": plateau,
    "cosine": cosine,
}
"""Schedules by the value of ``TrainConfig.schedule``."""
