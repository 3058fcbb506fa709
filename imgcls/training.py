"""The training loop: one budget, the best epoch by validation accuracy, and a state that survives any kill.

Everything random is drawn from (seed, epoch), so that a run resumed after epoch k needs no generator's state
and ends with the weights of a run never stopped.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from imgcls.checkpoint import Learner, best_epoch, best_file, restore, save
from imgcls.config import LoaderConfig, ModelConfig, TrainConfig
from imgcls.data.augment import Normalisation
from imgcls.data.loaders import Source, eval_batches, train_batches
from imgcls.data.parallel import usable_cores
from imgcls.errors import NonFiniteLossError
from imgcls.metrics import top1_accuracy
from imgcls.models import set_aux
from imgcls.results import EpochResult

CHANNELS_LAST_FROM_PX: Final = 64
"""channels_last trains 1.1 to 1.6 x faster from here on (measured at 64, 75 and 128 px on two cores)."""
EVAL_BATCH: Final = 64
BETAS: Final = (0.9, 0.999)


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What training cost and gave; ``state`` is the best epoch's, without the auxiliary head."""

    history: tuple[EpochResult, ...]
    best_epoch: int
    steps: int
    resumed_from: tuple[int, ...]
    state: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Progress inside an epoch, for a bar."""

    epoch: int
    epochs: int
    images: int
    total_images: int


Report = Callable[[Step | EpochResult], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What the loop needs beside the model."""

    train: Source
    val: Source
    normalisation: Normalisation
    loader: LoaderConfig
    model: ModelConfig
    config: TrainConfig
    seed: int
    device: torch.device
    folder: Path
    report: Report


def train(model: nn.Module, setting: Setting) -> Training:
    """Train, going on from ``setting.folder`` where a run was stopped; raises NonFiniteLossError."""
    learner = _learner(model, setting)
    history, resumed = restore(learner, setting.folder, setting.device)
    for epoch in range(len(history) + 1, setting.config.epochs + 1):
        result = _epoch(learner, setting, epoch)
        learner.scheduler.step(result.val_loss)
        history = [*history, result]
        save(learner, setting.folder, history, resumed)
        setting.report(result)
    best = best_epoch(history)
    steps = len(history) * len(range(0, len(setting.train) - 1, setting.loader.batch_size))
    state = load_file(best_file(setting.folder, best))
    return Training(history=tuple(history), best_epoch=best, steps=steps, resumed_from=tuple(resumed), state=state)


def _learner(model: nn.Module, setting: Setting) -> Learner:
    model.to(setting.device).to(memory_format=memory_format(setting.loader.image_size))
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.config.lr, betas=BETAS, fused=True)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=setting.config.lr_factor, patience=setting.config.lr_patience
    )
    return Learner(model=model, optimizer=optimizer, scheduler=scheduler)


def memory_format(image_size: int) -> torch.memory_format:
    """Choose by a rule, not by a measurement: a resumed run must not choose otherwise."""
    return torch.channels_last if image_size >= CHANNELS_LAST_FROM_PX else torch.contiguous_format


def use_threads(threads: int) -> int:
    """Give torch this many threads (0: all that this process may use), and return how many."""
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def logits_of(
    model: nn.Module, source: Source, *, normalisation: Normalisation, device: torch.device
) -> NDArray[np.float32]:
    """Predict a split in eval mode, without augmentation and auxiliary head: float32 ``[N, C]``."""
    model.eval()
    set_aux(model, enabled=False)
    parts = []
    with torch.inference_mode():
        for images, _ in eval_batches(source, batch_size=EVAL_BATCH, normalisation=normalisation, device=device):
            parts.append(cast("Tensor", model(images)).float().cpu().numpy())
    return np.concatenate(parts)


def _epoch(learner: Learner, setting: Setting, epoch: int) -> EpochResult:
    lr = float(learner.optimizer.param_groups[0]["lr"])
    started = time.perf_counter()
    train_loss, images = _train_epoch(learner, setting, epoch)
    trained = time.perf_counter()
    logits = logits_of(learner.model, setting.val, normalisation=setting.normalisation, device=setting.device)
    val_loss = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(setting.val.labels)).item()
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=val_loss,
        val_top1_accuracy=top1_accuracy(logits, setting.val.labels),
        lr=lr,
        train_time_s=trained - started,
        eval_time_s=time.perf_counter() - trained,
        images=images,
    )


def _train_epoch(learner: Learner, setting: Setting, epoch: int) -> tuple[float, int]:
    """Train one pass; the mean loss over its images, and how many they were."""
    model, optimizer = learner.model, learner.optimizer
    model.train()
    set_aux(model, enabled=True)
    torch.manual_seed(_mixed(setting.seed, epoch, 0))
    generator = torch.Generator().manual_seed(_mixed(setting.seed, epoch, 1))
    total, seen = 0.0, 0
    for step, (images, labels) in enumerate(_batches(setting, generator), start=1):
        loss = _loss(model, images, labels, setting)
        value = loss.item()
        if not np.isfinite(value):
            message = f"the loss is {value} at epoch {epoch}, step {step}; a lower --lr may help"
            raise NonFiniteLossError(message)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        total, seen = total + value * len(labels), seen + len(labels)
        setting.report(Step(epoch=epoch, epochs=setting.config.epochs, images=seen, total_images=len(setting.train)))
    return total / seen, seen


def _batches(setting: Setting, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    return train_batches(
        setting.train,
        batch_size=setting.loader.batch_size,
        normalisation=setting.normalisation,
        device=setting.device,
        generator=generator,
    )


def _loss(model: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    with _autocast(setting.device):
        outputs = model(images)
        if isinstance(outputs, tuple):
            logits, aux_logits = outputs
            aux_loss = functional.cross_entropy(aux_logits, labels)
            return functional.cross_entropy(logits, labels) + setting.model.aux_weight * aux_loss
        return functional.cross_entropy(outputs, labels)


def _autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 on CUDA, where it needs no loss scaling; float32 on a CPU, where bf16 without AMX is slower."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _mixed(*parts: int) -> int:
    """Mix integers into one 63-bit seed."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
