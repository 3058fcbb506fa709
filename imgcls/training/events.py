"""Progress events and results of training as dataclasses; this module imports no third-party library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

FitMethod = Literal["linear", "gradient"]
"""How the classifier alone is fitted: as linear heads, each by a logistic regression, or by gradient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochResult:
    """Result of an epoch: losses in nats, validation accuracy, learning rate, seconds of training and evaluation."""

    epoch: int
    train_loss: float
    val_loss: float
    val_top1_accuracy: float
    lr: float
    train_time_s: float
    eval_time_s: float
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadResult:
    """Result of the classifier pre-fit: its method, its scores, and its cost including all passes over the images."""

    method: FitMethod
    epoch: EpochResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Progress within an epoch; ``train_time_s`` excludes evaluation.

    ``epochs`` is None if the budget is a time; ``fraction`` is the share of the whole budget that is spent.
    """

    epoch: int
    epochs: int | None
    fraction: float
    images: int
    total_images: int
    train_time_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """Validation accuracy after a ``fraction`` of the run's steps, which a pruner compares between trials."""

    fraction: float
    val_top1_accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadFit:
    """The classifier was fitted before the first epoch, to features of ``images`` images without their gradients."""

    images: int
    head_time_s: float


Report = Callable[[Step | Rung | EpochResult | HeadFit], None]


def silent(event: Step | Rung | EpochResult | HeadFit) -> None:
    """Report nothing."""
    del event
