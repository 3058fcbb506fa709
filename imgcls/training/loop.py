"""The training loop: trains for a number of epochs, selects one, and resumes an interrupted run.

All random numbers are drawn from (seed, epoch), so that a resumed run needs no generator state and ends with the
weights of an uninterrupted one.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from imgcls.data.loaders import train_batches
from imgcls.errors import NonFiniteLossError
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import top1_accuracy
from imgcls.models.building import memory_format, set_aux
from imgcls.parallel import usable_cores
from imgcls.training.checkpoints import Learner, best_file, restore, save, selected_epoch
from imgcls.training.events import EpochResult, Rung, Step
from imgcls.training.losses import training_loss
from imgcls.training.schedules import SCHEDULES
from imgcls.training.setup import Training, TrainingSetup

LOGGER = logging.getLogger(__name__)

BETAS: Final = (0.9, 0.999)


def train(model: nn.Module, setup: TrainingSetup) -> Training:
    """Train, resuming from ``setup.folder`` if it contains a checkpoint.

    Raises NonFiniteLossError if the training loss becomes NaN or infinite.
    """
    learner = _learner(model, setup)
    history, resumed = restore(learner, setup.folder, setup.device)
    if history:
        LOGGER.info("  resumed after epoch %d of %d", len(history), setup.train.epochs)
    for epoch in range(len(history) + 1, setup.train.epochs + 1):
        result = _epoch(learner, setup, epoch)
        if isinstance(learner.scheduler, ReduceLROnPlateau):
            learner.scheduler.step(result.val_loss)
        history = [*history, result]
        # Saved before it is reported: ``report`` may raise to stop the run, as a pruned trial does.
        save(learner, setup.folder, history, resumed=resumed, select=setup.train.select)
        setup.report(result)
    best = selected_epoch(history, setup.train.select)
    steps = len(history) * setup.steps_per_epoch
    state = load_file(best_file(setup.folder, best))
    return Training(history=tuple(history), best_epoch=best, steps=steps, resumed_from=tuple(resumed), state=state)


def _learner(model: nn.Module, setup: TrainingSetup) -> Learner:
    model.to(setup.device).to(memory_format=memory_format(setup.loader.image_size))
    config = setup.train
    # On two cores, a step with 24 M parameters took 33 ms with the fused implementation, otherwise 135 to 167 ms.
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config.lr, betas=BETAS, weight_decay=config.weight_decay, fused=True
    )
    return Learner(model=model, optimizer=optimizer, scheduler=SCHEDULES[setup.train.schedule](optimizer, setup))


def use_threads(threads: int) -> int:
    """Set the number of threads of torch (0: all cores that this process may use), and return it."""
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def _epoch(learner: Learner, setup: TrainingSetup, epoch: int) -> EpochResult:
    lr = float(learner.optimizer.param_groups[0]["lr"])
    train_loss, images, train_time_s = _train_epoch(learner, setup, epoch)
    trained = time.perf_counter()
    logits = _val_logits(learner, setup)
    val_loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(setup.val_source.labels)).item()
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=val_loss,
        val_top1_accuracy=top1_accuracy(logits, setup.val_source.labels),
        lr=lr,
        train_time_s=train_time_s,
        eval_time_s=time.perf_counter() - trained,
        images=images,
    )


def _train_epoch(learner: Learner, setup: TrainingSetup, epoch: int) -> tuple[float, int, float]:
    """Train one epoch; return the mean loss, the number of images, and the seconds without evaluation."""
    total, seen, evaluated_s, started = 0.0, 0, 0.0, time.perf_counter()
    # Dropout draws from torch's global generator; order and augmentation have one of their own, on the CPU.
    torch.manual_seed(_mixed(setup.seed, epoch, 0))
    generator = torch.Generator().manual_seed(_mixed(setup.seed, epoch, 1))
    rungs = _rungs_within(setup, epoch)
    _train_mode(learner.model)
    for step, (images, labels) in enumerate(_batches(setup, generator), start=1):
        total += _train_step(learner, images, labels, setup=setup, place=(epoch, step)) * len(labels)
        seen += len(labels)
        train_time_s = time.perf_counter() - started - evaluated_s
        setup.report(
            Step(
                epoch=epoch,
                epochs=setup.train.epochs,
                images=seen,
                total_images=len(setup.train_source),
                train_time_s=train_time_s,
            )
        )
        if step in rungs:
            evaluated_s += _score_rung(learner, setup, rungs[step])
    return total / seen, seen, train_time_s


def _train_mode(model: nn.Module) -> None:
    model.train()
    set_aux(model, enabled=True)


def _train_step(
    learner: Learner, images: Tensor, labels: Tensor, *, setup: TrainingSetup, place: tuple[int, int]
) -> float:
    """Make one step and return the loss; raises NonFiniteLossError before the optimizer's step."""
    with _autocast(setup.device):
        loss = training_loss(learner.model(images), labels, setup)
    # item() waits for the device: the price of stopping before a non-finite loss reaches the weights.
    value = loss.item()
    if not np.isfinite(value):
        message = f"the loss is {value} at epoch {place[0]}, step {place[1]}; a lower --lr may help"
        raise NonFiniteLossError(message)
    learner.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    learner.optimizer.step()
    if not isinstance(learner.scheduler, ReduceLROnPlateau):  # stepped once per epoch, with the validation loss
        learner.scheduler.step()
    return value


def _rungs_within(setup: TrainingSetup, epoch: int) -> dict[int, float]:
    """Return the steps of this epoch after which a rung of the whole run is reached, with the rung's fraction."""
    per_epoch = setup.steps_per_epoch
    steps = {fraction: max(1, round(fraction * setup.train.epochs * per_epoch)) for fraction in setup.rungs}
    first = (epoch - 1) * per_epoch
    return {step - first: fraction for fraction, step in steps.items() if first < step <= first + per_epoch}


def _score_rung(learner: Learner, setup: TrainingSetup, fraction: float) -> float:
    """Score the val split within an epoch and report it; return the seconds that this took."""
    started = time.perf_counter()
    accuracy = top1_accuracy(_val_logits(learner, setup), setup.val_source.labels)
    setup.report(Rung(fraction=fraction, val_top1_accuracy=accuracy))
    # Scoring has set the eval mode and disabled the auxiliary head.
    _train_mode(learner.model)
    return time.perf_counter() - started


def _val_logits(learner: Learner, setup: TrainingSetup) -> NDArray[np.float32]:
    return logits_of(learner.model, setup.val_source, normalisation=setup.normalisation, device=setup.device)


def _batches(setup: TrainingSetup, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    return train_batches(
        setup.train_source,
        batch_size=setup.loader.batch_size,
        normalisation=setup.normalisation,
        device=setup.device,
        generator=generator,
    )


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return autocast to bf16 on CUDA, and a context without effect (float32) on a CPU."""
    # bf16 needs no loss scaling, unlike fp16. On a CPU, the speed with bf16 was 0.67 to 1.8 times that with float32,
    # depending on the model and the CPU.
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _mixed(*parts: int) -> int:
    """Return a 63-bit seed that depends on all ``parts``."""
    # Not their sum: (seed 0, epoch 1) and (seed 1, epoch 0) must not draw the same numbers.
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
