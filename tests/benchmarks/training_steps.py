"""Training steps to time: the whole loop, and the same step on one batch in memory."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from imgcls.config import ArchitectureConfig, Device, LoaderConfig, TrainConfig
from imgcls.data.loaders import Source
from imgcls.models.building import build_model, set_aux
from imgcls.models.registry import ModelSpec, resolve_spec
from imgcls.models.weights import random_weights
from imgcls.training.loop import memory_format, train, use_threads
from imgcls.training.losses import training_loss
from imgcls.training.optimizers import BETAS
from imgcls.training.plan import TrainingPlan
from imgcls.training.precision import autocast

BATCHES: Final = 5
"""Batches of an epoch."""

LOADER: Final = LoaderConfig(image_size=128)


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def training_of(
    model: str, folder: Path, config: TrainConfig, *, device: Device = "cpu", loader: LoaderConfig = LOADER
) -> tuple[ModelSpec, TrainingPlan]:
    """Return the training of a model on random pixels, with all cores."""
    use_threads(0)
    px = loader.image_size
    spec = resolve_spec(model, loader, random_weights)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCHES * loader.batch_size, px, px, 3), dtype=np.uint8)
    labels = np.arange(len(pixels)) % 6
    plan = TrainingPlan(
        spec=spec,
        num_classes=6,
        train_source=Source(pixels=pixels, indices=np.arange(len(pixels)), labels=labels),
        val_source=Source(pixels=pixels, indices=np.arange(2), labels=labels[:2]),
        loader=loader,
        architecture=ArchitectureConfig(),
        train=replace(config, device=device),
        seed=0,
        folder=folder,
        report=lambda _event: None,
    )
    return spec, plan


def epoch_s(model: nn.Module, plan: TrainingPlan) -> float:
    """Train an epoch from its start; return the loop's own seconds of training."""
    for leftover in plan.folder.glob("*.*"):
        leftover.unlink()
    return train(model, plan).history[0].train_time_s


def bare_step(spec: ModelSpec, plan: TrainingPlan) -> Callable[[], None]:
    """Return the step of a training on one batch that is on the device already."""
    layout, device = memory_format(spec.structure, plan.loader.image_size), plan.device
    model: nn.Module = build_model(spec, ArchitectureConfig(), num_classes=6, aux_head=spec.has_aux_head)
    model.train().to(device).to(memory_format=layout)
    set_aux(model, enabled=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=BETAS, fused=True)
    size, px = plan.loader.batch_size, plan.loader.image_size
    images = torch.randn(size, 3, px, px, device=device).contiguous(memory_format=layout)
    labels = torch.arange(size, device=device) % 6

    def step() -> None:
        with autocast(device, plan.train.precision):
            loss = training_loss(model(images), labels, plan)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
