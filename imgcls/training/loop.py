"""The training loop: trains for a number of epochs, selects one, and resumes an interrupted run.

All random numbers are drawn from (seed, epoch), so that a resumed run needs no generator state and ends with the
weights of an uninterrupted one.
"""

import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from imgcls.config import MIN_BATCH
from imgcls.data.augment import MIXES, POLICIES, mix
from imgcls.data.loaders import SAMPLERS, shuffled, train_batches
from imgcls.errors import NonFiniteLossError
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import top1_accuracy
from imgcls.models.building import memory_format, storable, train_mode
from imgcls.parallel import usable_cores
from imgcls.training.checkpoints import Learner, Progress, best_file, restore, save, selected_epoch
from imgcls.training.events import EpochResult, HeadFit, Rung, Step
from imgcls.training.head import fit_head
from imgcls.training.losses import training_loss
from imgcls.training.optimizers import OPTIMIZERS, SCHEDULES
from imgcls.training.plan import Spent, Training, TrainingPlan, mixed
from imgcls.training.precision import autocast, scaler_of

LOGGER = logging.getLogger(__name__)


def train(model: nn.Module, plan: TrainingPlan) -> Training:
    """Train, resuming from ``plan.folder`` if it contains a checkpoint.

    Raises NonFiniteLossError if the training loss becomes NaN or infinite.
    """
    model.to(plan.device).to(memory_format=memory_format(plan.spec.structure, plan.loader.image_size))
    if plan.train.tune_layers == "head":
        return _head_only(model, plan)
    spent = Spent(duration=plan.duration)
    learner = _learner(model, plan, spent)
    progress = restore(learner, plan.folder, plan.device)
    if progress.history:
        spent.duration = replace(plan, head_images=progress.head_images or None).duration
        epochs = spent.duration.epochs
        LOGGER.info("  resumed after epoch %d%s", len(progress.history), f" of {epochs}" if epochs else "")
    elif plan.train.tune_layers == "head-then-all":
        # Training every layer from a random classifier at once distorts the pre-trained features (Kumar et al. 2022).
        progress = _fitted_first(model, plan)
        # Its images are part of a budget of compute, and their number was only planned before.
        spent.duration = replace(plan, head_images=progress.head_images).duration
        learner = _learner(model, plan, spent)
    # Only the last epoch may be a part of one, so that those before it are whole.
    spent.steps = min(len(progress.history) * plan.steps_per_epoch, spent.duration.steps or sys.maxsize)
    spent.seconds = progress.head_time_s + sum(result.train_time_s for result in progress.history)
    while not spent.ended:
        result = _epoch(learner, plan, len(progress.history) + 1, spent)
        if isinstance(learner.scheduler, ReduceLROnPlateau):
            learner.scheduler.step(result.val_loss)
        progress = replace(progress, history=(*progress.history, result))
        # Saved before it is reported: ``report`` may raise to stop the run, as a pruned trial does.
        save(learner, plan.folder, progress, plan.train.select)
        plan.report(result)
    best = selected_epoch(progress.history, plan.train.select)
    return Training(
        history=progress.history,
        best_epoch=best,
        steps=spent.steps,
        resumed_from=progress.resumed,
        state=load_file(best_file(plan.folder, best)),
        head_time_s=progress.head_time_s,
        head_images=progress.head_images,
        classifier_fit=progress.classifier_fit,
    )


def _fitted_first(model: nn.Module, plan: TrainingPlan) -> Progress:
    fitted = fit_head(model, plan)
    images, seconds = fitted.epoch.images, fitted.epoch.train_time_s + fitted.epoch.eval_time_s
    plan.report(HeadFit(images=images, head_time_s=seconds))
    return Progress(head_time_s=seconds, head_images=images, classifier_fit=fitted.method)


def _head_only(model: nn.Module, plan: TrainingPlan) -> Training:
    fitted = fit_head(model, plan)
    plan.report(fitted.epoch)
    return Training(
        history=(fitted.epoch,),
        best_epoch=1,
        steps=0,
        resumed_from=(),
        state=storable(model),
        classifier_fit=fitted.method,
    )


def _learner(model: nn.Module, plan: TrainingPlan, spent: Spent) -> Learner:
    optimizer = OPTIMIZERS[plan.train.optimizer](model, plan.train)
    return Learner(
        model=model,
        optimizer=optimizer,
        scheduler=SCHEDULES[plan.train.schedule](optimizer, plan, spent),
        scaler=scaler_of(plan.device, plan.train.precision),
        # With warm-up: the first averages would otherwise consist of the untrained weights.
        ema=None if plan.train.ema is None else ModelEmaV3(model, decay=plan.train.ema, use_warmup=True),
    )


def use_threads(threads: int) -> int:
    """Set the number of threads of torch (0: all cores that this process may use), and return it."""
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def _epoch(learner: Learner, plan: TrainingPlan, epoch: int, spent: Spent) -> EpochResult:
    lr = max(float(group["lr"]) for group in learner.optimizer.param_groups)
    train_loss, images, train_time_s = _train_epoch(learner, plan, epoch, spent)
    trained = time.perf_counter()
    logits = _val_logits(learner, plan)
    val_loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(plan.val_source.labels)).item()
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=val_loss,
        val_top1_accuracy=top1_accuracy(logits, plan.val_source.labels),
        lr=lr,
        train_time_s=train_time_s,
        eval_time_s=time.perf_counter() - trained,
        images=images,
    )


def _train_epoch(learner: Learner, plan: TrainingPlan, epoch: int, spent: Spent) -> tuple[float, int, float]:
    """Train one epoch, or until the budget is spent.

    Returns the mean loss, the number of images, and the seconds without evaluation.
    """
    total, seen, evaluated_s, started, before_s = 0.0, 0, 0.0, time.perf_counter(), spent.seconds
    # Dropout draws from torch's global generator; order and augmentation have one of their own, on the CPU.
    torch.manual_seed(mixed(plan.seed, epoch, 0))
    generator = torch.Generator().manual_seed(mixed(plan.seed, epoch, 1))
    rungs = _rungs_within(plan, epoch, spent.duration.steps)
    train_mode(learner.model, plan.train.norm)
    for step, (images, targets) in enumerate(_batches(plan, generator), start=1):
        total += _train_step(learner, images, targets, plan=plan, place=(epoch, step)) * len(targets)
        seen += len(targets)
        train_time_s = time.perf_counter() - started - evaluated_s
        spent.steps, spent.seconds = spent.steps + 1, before_s + train_time_s
        plan.report(
            Step(
                epoch=epoch,
                epochs=spent.duration.epochs,
                fraction=spent.fraction,
                images=seen,
                total_images=len(plan.train_source),
                train_time_s=train_time_s,
            )
        )
        if step in rungs:
            evaluated_s += _score_rung(learner, plan, rungs[step])
        if spent.ended:
            break
    return total / seen, seen, train_time_s


def _train_step(
    learner: Learner, images: Tensor, targets: Tensor, *, plan: TrainingPlan, place: tuple[int, int]
) -> float:
    """Make one step and return the loss; raises NonFiniteLossError before the optimizer's step."""
    learner.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for part, part_targets in _micro_batches(images, targets, plan.loader.micro_batch):
        with autocast(plan.device, plan.train.precision):
            loss = training_loss(learner.model(part), part_targets, plan)
        share = len(part) / len(images)
        # item() waits for the device: the price of stopping before a non-finite loss reaches the weights.
        total += share * loss.item()
        if not np.isfinite(total):
            message = f"the loss is {total} at epoch {place[0]}, step {place[1]}; a lower learning rate may help"
            raise NonFiniteLossError(message)
        torch.autograd.backward(learner.scaler.scale(share * loss if share < 1 else loss))
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if not isinstance(learner.scheduler, ReduceLROnPlateau):  # stepped once per epoch, with the validation loss
        learner.scheduler.step()
    if learner.ema is not None:
        learner.ema.update(learner.model, step=(place[0] - 1) * plan.steps_per_epoch + place[1])
    return total


def _micro_batches(images: Tensor, targets: Tensor, size: int | None) -> list[tuple[Tensor, Tensor]]:
    """Return a batch in parts of up to ``size`` images, or three for a size of two: batch norm needs two in each."""
    if size is None:
        return [(images, targets)]
    parts = min(-(-len(images) // size), len(images) // MIN_BATCH)
    return list(zip(images.tensor_split(parts), targets.tensor_split(parts), strict=True))


def _rungs_within(plan: TrainingPlan, epoch: int, total: int | None) -> dict[int, float]:
    """Return the steps of this epoch after which a rung of all ``total`` steps is reached, with the rung's fraction."""
    per_epoch = plan.steps_per_epoch
    assert total is not None or not plan.rungs, "sweeps refuse budgets of minutes"
    steps = {fraction: max(1, round(fraction * (total or 0))) for fraction in plan.rungs}
    first = (epoch - 1) * per_epoch
    return {step - first: fraction for fraction, step in steps.items() if first < step <= first + per_epoch}


def _score_rung(learner: Learner, plan: TrainingPlan, fraction: float) -> float:
    """Score the val split within an epoch and report it; return the seconds that this took."""
    started = time.perf_counter()
    accuracy = top1_accuracy(_val_logits(learner, plan), plan.val_source.labels)
    plan.report(Rung(fraction=fraction, val_top1_accuracy=accuracy))
    # Scoring has set the eval mode and disabled the auxiliary head.
    train_mode(learner.model, plan.train.norm)
    return time.perf_counter() - started


def _val_logits(learner: Learner, plan: TrainingPlan) -> NDArray[np.float32]:
    return logits_of(learner.evaluated, plan.val_source, normalisation=plan.spec.normalisation, device=plan.device)


def _batches(plan: TrainingPlan, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: images, and labels or, where images are mixed, probabilities of classes."""
    name = plan.train.augmentation
    batches = train_batches(
        plan.train_source,
        policy=POLICIES[name],
        hflip=not plan.train.no_hflip,
        sampler=SAMPLERS.get(plan.train.imbalance, shuffled),
        batch_size=plan.loader.batch_size,
        normalisation=plan.spec.normalisation,
        device=plan.device,
        generator=generator,
    )
    if name not in MIXES:
        return batches
    return (mix(*batch, generator, name=name, num_classes=plan.num_classes) for batch in batches)
