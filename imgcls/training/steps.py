"""The steps of an epoch: this process's part of each batch, its gradients, and the update of the weights."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from imgcls.config import MIN_BATCH
from imgcls.data.augment import MIXES, POLICIES, mix
from imgcls.data.loaders import SAMPLERS, Share, shuffled, train_batches
from imgcls.training import ranks
from imgcls.training.checkpoints import Learner
from imgcls.training.losses import training_loss
from imgcls.training.plan import TrainingPlan
from imgcls.training.precision import autocast


def batches(plan: TrainingPlan, generator: torch.Generator, share: Share) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this process's part of each batch: images, and labels or, if images are mixed, class probabilities."""
    name = plan.train.augmentation
    whole = train_batches(
        plan.train_source,
        policy=POLICIES[name],
        hflip=not plan.train.no_hflip,
        sampler=SAMPLERS.get(plan.train.imbalance, shuffled),
        batch_size=plan.loader.batch_size,
        normalisation=plan.spec.normalisation,
        device=plan.device,
        generator=generator,
        # Mixed are images of the whole batch, which each process therefore reads.
        share=Share() if name in MIXES else share,
    )
    if name not in MIXES:
        yield from whole
        return
    for batch in whole:
        mixed_images, targets = mix(*batch, generator, name=name, num_classes=plan.num_classes)
        own = share.of(np.arange(len(targets)))
        yield mixed_images[own], targets[own]


def train_step(  # noqa: PLR0913 - a batch, its size in all processes, and its place
    learner: Learner, images: Tensor, targets: Tensor, *, size: int, plan: TrainingPlan, place: tuple[int, int]
) -> Tensor:
    """Make one step, and return the loss of the whole batch of ``size`` images, float64 on the device."""
    learner.optimizer.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64, device=plan.device)
    for part, part_targets, weight in _micro_batches(images, targets, size, plan.loader.micro_batch):
        with autocast(plan.device, plan.train.precision):
            loss = training_loss(learner.network(part), part_targets, plan)
        total += weight * loss.detach().double()
        torch.autograd.backward(learner.scaler.scale(loss if weight == 1 else weight * loss))
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if not isinstance(learner.scheduler, ReduceLROnPlateau):  # stepped once per epoch, with the validation loss
        learner.scheduler.step()
    if learner.ema is not None:
        learner.ema.update(learner.model, step=(place[0] - 1) * plan.steps_per_epoch + place[1])
    return ranks.mean(total)


def _micro_batches(
    images: Tensor, targets: Tensor, size: int, micro_batch: int | None
) -> list[tuple[Tensor, Tensor, float]]:
    """Return this process's images of a batch of ``size`` in parts, each with the weight of its mean loss.

    A part has up to ``micro_batch`` images, or three for one of two: batch norm needs two in each.
    """
    world = ranks.share().world
    divided = ranks.share().divides(size)
    # By the sizes of the whole batch: every process must average its gradients as often.
    largest, smallest = (-(-size // world), size // world) if divided else (size, size)
    parts = 1 if micro_batch is None else min(-(-largest // micro_batch), smallest // MIN_BATCH)
    # The mean over processes of their gradients is then that of all images.
    whole = size / world if divided else size
    split = zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True)
    return [(part, part_targets, len(part) / whole) for part, part_targets in split]
