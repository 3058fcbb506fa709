"""The training loop: trains for a number of epochs, selects one, and resumes an interrupted run.

All random numbers are drawn from (seed, epoch), so that a resumed run needs no generator state and ends with the
weights of an uninterrupted one.
"""

import logging
import sys
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from imgcls.data.loaders import batch_sizes
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import top1_accuracy
from imgcls.models.building import memory_format, storable, train_mode
from imgcls.parallel import usable_cores
from imgcls.training import ranks
from imgcls.training.checkpoints import Learner, Progress, best_file, restore, save, selected_epoch
from imgcls.training.events import EpochResult, HeadFit, Rung, Step, silent
from imgcls.training.heads.linear import fit_head
from imgcls.training.losses import LateLosses
from imgcls.training.optimizers import OPTIMIZERS, SCHEDULES
from imgcls.training.plan import Spent, Training, TrainingPlan, mixed
from imgcls.training.precision import scaler_of
from imgcls.training.steps import batches, train_step

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
    while not spent.ended and len(progress.history) != plan.pause_after:
        result = _epoch(learner, plan, len(progress.history) + 1, spent)
        if isinstance(learner.scheduler, ReduceLROnPlateau):
            learner.scheduler.step(result.val_loss)
        progress = replace(progress, history=(*progress.history, result))
        ranks.agreed(partial(_finish_epoch, learner, plan, progress))
    best = selected_epoch(progress.history, plan.train.select)
    return Training(
        history=progress.history,
        best_epoch=best,
        steps=spent.steps,
        resumed_from=progress.resumed,
        # Others may have another disk.
        state=ranks.of_first(load_file(best_file(plan.folder, best)) if ranks.leads() else {}),
        head_time_s=progress.head_time_s,
        head_images=progress.head_images,
        classifier_fit=progress.classifier_fit,
    )


def _finish_epoch(learner: Learner, plan: TrainingPlan, progress: Progress) -> None:
    # Saved before it is reported: ``report`` may raise to stop the run, as a pruned trial does.
    save(learner, plan.folder, progress, plan.train.select)
    plan.report(progress.history[-1])


def _fitted_first(model: nn.Module, plan: TrainingPlan) -> Progress:
    """Fit the classifier, on one device: its weights are sent to the others with all others (``ranks.wrapped``)."""
    progress = Progress()

    def fit() -> None:
        nonlocal progress
        fitted = fit_head(model, plan)
        images, seconds = fitted.epoch.images, fitted.epoch.train_time_s + fitted.epoch.eval_time_s
        plan.report(HeadFit(images=images, head_time_s=seconds))
        progress = Progress(head_time_s=seconds, head_images=images, classifier_fit=fitted.method)

    ranks.agreed(fit)
    return ranks.of_first(progress)


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
    network = ranks.wrapped(model, plan.train.norm)
    optimizer = OPTIMIZERS[plan.train.optimizer](model, plan.train)
    return Learner(
        model=model,
        network=network,
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
    losses, share = LateLosses(), ranks.share()
    report = plan.report if share.rank == 0 else silent
    seen, evaluated_s, started, before_s = 0, 0.0, time.perf_counter(), spent.seconds
    # Dropout draws from torch's global generator; order and augmentation have one of their own, on the CPU.
    torch.manual_seed(mixed(plan.seed, epoch, 0, *([share.rank] if share.rank else [])))
    generator = torch.Generator().manual_seed(mixed(plan.seed, epoch, 1))
    rungs = _rungs_within(plan, epoch, spent.duration.steps)
    train_mode(learner.model, plan.train.norm)
    sizes = [size for _, size in batch_sizes(len(plan.train_source), plan.loader.batch_size)]
    for step, (size, batch) in enumerate(zip(sizes, batches(plan, generator, share), strict=True), start=1):
        loss = train_step(learner, *batch, size=size, plan=plan, place=(epoch, step))
        losses.add(loss, count=size, place=(epoch, step))
        seen += size
        train_time_s = time.perf_counter() - started - evaluated_s
        spent.steps, spent.seconds = spent.steps + 1, before_s + train_time_s
        if spent.duration.seconds is not None:
            spent.seconds = ranks.of_first(spent.seconds)  # all end with the same step
        report(
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
            losses.check()
            evaluated_s += _score_rung(learner, plan, rungs[step])
        if spent.ended:
            break
    losses.check()
    return losses.total / seen, seen, train_time_s


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
    ranks.agreed(partial(plan.report, Rung(fraction=fraction, val_top1_accuracy=accuracy)))
    # Scoring has set the eval mode and disabled the auxiliary head.
    train_mode(learner.model, plan.train.norm)
    return time.perf_counter() - started


def _val_logits(learner: Learner, plan: TrainingPlan) -> NDArray[np.float32]:
    """Return the logits of the val split, of which each process predicts its part."""
    source, share = plan.val_source, ranks.share()
    ranks.equalise(learner.evaluated.buffers())
    own = np.arange(share.rank, len(source), share.world) if len(source) >= share.world else np.arange(len(source))
    part = replace(source, indices=source.indices[own], labels=source.labels[own])
    logits = logits_of(learner.evaluated, part, normalisation=plan.spec.normalisation, device=plan.device)
    return ranks.together(torch.from_numpy(logits).to(plan.device), len(source)).cpu().numpy()
