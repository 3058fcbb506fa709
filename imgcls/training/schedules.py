"""The training loop: one budget, the best or the last epoch, and a state that survives any kill.

Everything random is drawn from (seed, epoch), so that a run resumed after epoch k needs no generator's state
and ends with the weights of a run never stopped.
"""

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau

from imgcls.training.setup import TrainingSetup


def _scheduler(optimizer: torch.optim.Optimizer, setup: TrainingSetup) -> LRScheduler:
    """Give a plateau, which steps once an epoch, or a cosine to 0, which steps once a batch (SGDR, 2017)."""
    config = setup.train
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=config.epochs * setup.steps_per_epoch)
    return ReduceLROnPlateau(optimizer, factor=config.lr_factor, patience=config.lr_patience)
