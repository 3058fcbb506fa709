"""Training losses: cross-entropy and those against class imbalance, and the weighted loss of an auxiliary head."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from imgcls.errors import NonFiniteLossError
from imgcls.training.plan import TrainingPlan

Outputs = Tensor | tuple[Tensor, Tensor]
"""Logits ``[B, C]``, or (logits, auxiliary logits) of a network with an enabled auxiliary head."""

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Returns the scalar loss of logits ``[B, C]``, class probabilities ``[B, C]`` and the train images of each class."""

FOCUS: Final = 2.0
"""Exponent of the focal loss that its authors found best."""


def training_loss(outputs: Outputs, targets: Tensor, plan: TrainingPlan) -> Tensor:
    """Return the scalar loss of a batch; ``targets`` are labels, int64 ``[B]``, or class probabilities ``[B, C]``.

    The auxiliary loss is weighted by ``architecture.aux_weight`` (Szegedy et al. 2015).
    """
    if isinstance(outputs, Tensor):
        return class_loss(outputs, targets, plan)
    main, auxiliary = (class_loss(logits, targets, plan) for logits in outputs)
    return main + plan.architecture.aux_weight * auxiliary


def class_loss(logits: Tensor, targets: Tensor, plan: TrainingPlan) -> Tensor:
    """Return the loss of ``train.imbalance``, with targets smoothed by ``train.label_smoothing`` (Szegedy et al. 2016).

    A new loss is a function below and a line in ``LOSSES``.
    """
    smoothing = plan.train.label_smoothing
    loss = LOSSES.get(plan.train.imbalance)
    if loss is None:
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    classes = plan.num_classes
    if targets.ndim == 1:
        targets = functional.one_hot(targets, classes).to(torch.float32)
    counts = torch.from_numpy(plan.train_source.counts(classes)).to(logits.device, torch.float32)
    return loss(logits, (1 - smoothing) * targets + smoothing / classes, counts)


def class_weights(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return cross-entropy with each class weighted by its inverse frequency, so that the mean weight is 1."""
    weights = counts.sum() / (len(counts) * counts.clamp_min(1))
    # Not torch's own mean, which divides by the weights of a batch: then micro-batches would change the gradient.
    return -(weights * targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def focal(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return the focal loss (Lin et al. 2017, equation 4, without weights), for softmax instead of sigmoid outputs."""
    # torchvision has the sigmoid form; validation, calibration and export of all models here are of a softmax.
    del counts
    log_p = functional.log_softmax(logits, dim=1)
    return -(targets * (1 - log_p.exp()) ** FOCUS * log_p).sum(dim=1).mean()


def logit_adjustment(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return cross-entropy of logits plus the log priors of their classes (Menon et al. 2021, equation 10, tau = 1)."""
    # A class without train images would have a prior of 0, whose logarithm is infinite.
    priors = counts.clamp_min(1) / counts.sum()
    return functional.cross_entropy(logits + priors.log(), targets)


def balanced_softmax(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Return cross-entropy of a softmax whose terms are weighted by ``counts`` (Ren et al. 2020, equation 3).

    It equals ``logit_adjustment`` with tau = 1: priors and counts differ by a factor, which the softmax cancels.
    """
    return functional.cross_entropy(logits + counts.clamp_min(1).log(), targets)


@dataclass(kw_only=True, slots=True)
class LateLosses:
    """The losses of steps, each read while the next step is computed: reading it at once would wait for the device."""

    total: float = 0.0
    """Sum of the losses that were read, each times the number of its images."""
    _unread: tuple[Tensor, int, tuple[int, int]] | None = None
    _copied: torch.cuda.Event | None = None

    def add(self, loss: Tensor, *, count: int, place: tuple[int, int]) -> None:
        """Add the mean loss of ``count`` images in an (epoch, step), and check the loss of the step before it."""
        self.check()
        # Copied by the device after what is queued so far, and before the next step.
        self._unread = loss.to("cpu", non_blocking=True), count, place
        if loss.device.type == "cuda":
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def check(self) -> None:
        """Read the last loss; raises NonFiniteLossError if it is NaN or infinite."""
        if self._unread is None:
            return
        if self._copied is not None:
            self._copied.synchronize()
        loss, count, (epoch, step) = self._unread
        self._unread = None
        value = loss.item()
        if not math.isfinite(value):
            message = f"the loss is {value} at epoch {epoch}, step {step}; a lower learning rate may help"
            raise NonFiniteLossError(message)
        self.total += value * count


LOSSES: Final[dict[str, Loss]] = {
    "class-weights": class_weights,
    "focal": focal,
    "logit-adjustment": logit_adjustment,
    "balanced-softmax": balanced_softmax,
}
"""Losses of the techniques of ``TrainConfig.imbalance`` that have one; the others use cross-entropy."""
