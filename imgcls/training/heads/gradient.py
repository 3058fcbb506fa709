"""The classifier alone, trained by gradient below frozen layers: for networks that do not end in linear heads.

The logits of VOLO, for example, contain the largest logit over all tokens.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.data.augment import POLICIES
from imgcls.data.loaders import SAMPLERS, Batch, Source, eval_batches, shuffled, train_batches
from imgcls.errors import NonFiniteLossError
from imgcls.evaluation.forward import EVAL_BATCH
from imgcls.models.building import set_aux
from imgcls.training.events import EpochResult
from imgcls.training.losses import class_loss
from imgcls.training.plan import HEAD_EPOCHS, TrainingPlan, mixed

LOGGER = logging.getLogger(__name__)

HEAD_LR: Final = 1e-3
"""Learning rate of the classifier, whose layers start at zero."""


def fit_by_gradient(model: nn.Module, plan: TrainingPlan) -> EpochResult:
    """Train the layers of the classifier for ``HEAD_EPOCHS`` epochs, and keep the epoch that is best on val.

    All other layers are frozen, in eval mode. Returns the scores of that epoch, and the cost of all. Raises
    NonFiniteLossError if the loss is not finite.
    """
    model.eval()
    set_aux(model, enabled=False)
    frozen = [weight for name, weight in model.named_parameters() if not _is_of(name, plan.spec.structure.classifier)]
    head = {name: weight for name, weight in model.named_parameters() if _is_of(name, plan.spec.structure.classifier)}
    assert head, "find_structure refuses networks without a classifier"
    with torch.no_grad():
        for weight in head.values():
            # timm draws some classifiers so wide that their first logits cost most of these few epochs.
            weight.zero_()
    was_trained = [weight.requires_grad for weight in frozen]
    for weight in frozen:
        weight.requires_grad = False
    try:
        best, state = _train(model, head, plan)
    finally:
        for weight, trained in zip(frozen, was_trained, strict=True):
            weight.requires_grad = trained
    with torch.no_grad():
        for name, weight in head.items():
            weight.copy_(state[name])
    LOGGER.info(
        "  classifier: trained by gradient for %d epochs, val %.1f %%", HEAD_EPOCHS, 100 * best.val_top1_accuracy
    )
    return best


def _is_of(name: str, layers: tuple[str, ...]) -> bool:
    return name.rpartition(".")[0] in layers


def _train(
    model: nn.Module, head: dict[str, nn.Parameter], plan: TrainingPlan
) -> tuple[EpochResult, dict[str, Tensor]]:
    """Return the result of the best epoch, with the cost of all epochs, and the classifier's parameters after it."""
    optimizer = torch.optim.Adam(head.values(), lr=HEAD_LR, fused=True)
    results, states, train_time_s, eval_time_s = list[EpochResult](), list[dict[str, Tensor]](), 0.0, 0.0
    for epoch in range(1, HEAD_EPOCHS + 1):
        started = time.perf_counter()
        train_loss = _epoch(model, optimizer, plan, epoch)
        trained = time.perf_counter()
        val_loss, accuracy = _scores(model, plan)
        train_time_s += trained - started
        eval_time_s += time.perf_counter() - trained
        results.append(
            EpochResult(
                epoch=1,
                train_loss=train_loss,
                val_loss=val_loss,
                val_top1_accuracy=accuracy,
                lr=HEAD_LR,
                train_time_s=train_time_s,
                eval_time_s=eval_time_s,
                images=epoch * len(plan.train_source),
            )
        )
        states.append({name: weight.detach().clone() for name, weight in head.items()})
    best = max(range(HEAD_EPOCHS), key=lambda index: (results[index].val_top1_accuracy, -results[index].val_loss))
    whole = results[-1]
    chosen = replace(results[best], train_time_s=whole.train_time_s, eval_time_s=whole.eval_time_s, images=whole.images)
    return chosen, states[best]


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, plan: TrainingPlan, epoch: int) -> float:
    """Train one epoch, and return the mean loss over images."""
    total, seen = 0.0, 0
    batches = train_batches(
        plan.train_source,
        policy=POLICIES[plan.train.augmentation],
        hflip=not plan.train.no_hflip,
        sampler=SAMPLERS.get(plan.train.imbalance, shuffled),
        batch_size=plan.loader.batch_size,
        normalisation=plan.spec.normalisation,
        device=plan.device,
        generator=torch.Generator().manual_seed(mixed(plan.seed, epoch, 5)),
    )
    for images, labels in batches:
        loss = class_loss(model(images), labels, plan)
        if not torch.isfinite(loss):
            message = "the loss of the classifier is not finite; use other weights"
            raise NonFiniteLossError(message)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    return total / seen


def _scores(model: nn.Module, plan: TrainingPlan) -> tuple[float, float]:
    """Return the loss and the accuracy on val."""
    with torch.inference_mode():
        parts = [(model(images).float(), labels) for images, labels in plain_batches(plan.val_source, plan)]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    loss = functional.cross_entropy(logits, labels).item()
    return loss, (logits.argmax(dim=1) == labels).double().mean().item()


def plain_batches(source: Source, plan: TrainingPlan) -> Iterator[Batch]:
    """Return the batches of a pass over a split without augmentation."""
    return eval_batches(source, batch_size=EVAL_BATCH, normalisation=plan.spec.normalisation, device=plan.device)
