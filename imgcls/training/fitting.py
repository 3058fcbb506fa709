"""Preparation and start of a training: threads, seed and model; ``loop`` does the rest."""

from pathlib import Path

import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.data.loaders import Source
from imgcls.models.building import build_model
from imgcls.models.registry import ModelSpec
from imgcls.training.events import Report
from imgcls.training.loop import train as run_loop
from imgcls.training.loop import use_threads
from imgcls.training.setup import Training, TrainingSetup


def fit(  # noqa: PLR0913 - the parts of a training
    spec: ModelSpec,
    *,
    num_classes: int,
    train_source: Source,
    val_source: Source,
    loader: LoaderConfig,
    architecture: ArchitectureConfig,
    train: TrainConfig,
    seed: int,
    folder: Path,
    report: Report,
    rungs: tuple[float, ...] = (),
) -> Training:
    """Build the model and train it, resuming from ``folder`` if it was interrupted.

    The test split is not among the arguments. ``train`` names a device and a number of threads (``resolve_train``).
    Raises NonFiniteLossError.
    """
    use_threads(train.train_threads)
    torch.manual_seed(seed)
    aux_head = spec.has_aux_head and architecture.aux_weight > 0
    model = build_model(spec, architecture, num_classes=num_classes, aux_head=aux_head)
    setup = TrainingSetup(
        train_source=train_source,
        val_source=val_source,
        normalisation=spec.normalisation,
        loader=loader,
        architecture=architecture,
        train=train,
        seed=seed,
        device=torch.device(train.device),
        folder=folder,
        report=report,
        rungs=rungs,
    )
    return run_loop(model, setup)
