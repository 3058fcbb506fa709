"""What training reports while it runs, and what it returns, as plain data: importing it costs nothing."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochResult:
    """One epoch: losses in nats, validation accuracy, the lr it ran with, seconds of training and evaluation."""

    epoch: int
    train_loss: float
    val_loss: float
    val_top1_accuracy: float
    lr: float
    train_time_s: float
    eval_time_s: float
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Progress inside an epoch; ``train_time_s`` leaves evaluation out."""

    epoch: int
    epochs: int
    images: int
    total_images: int
    train_time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """Validation accuracy when ``fraction`` of the run's own steps are done."""

    fraction: float
    val_top1_accuracy: float


Report = Callable[[Step | Rung | EpochResult], None]
