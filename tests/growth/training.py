"""Training and evaluation of a tiny network on many photos; loads torch, which the other steps do not measure."""

import tempfile
import time
from pathlib import Path
from typing import Final

import torch

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.data.audit import audit_dataset
from imgcls.data.prepared import prepare
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from imgcls.data.stores.choice import Store
from imgcls.evaluation.forward import logits_of
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from imgcls.parallel import usable_cores
from imgcls.training.events import silent
from imgcls.training.fitting import fit
from imgcls.training.plan import TrainingPlan

BATCH: Final = 128


def plan(home: Path, store: Store, *, size: int) -> TrainingPlan:
    """Return a training of one epoch on the photos in ``home``."""
    spec = resolve_spec("test_efficientnet", LoaderConfig(image_size=size), random_weights)
    dataset = load_dataset(str(home / "photos"))
    audit = audit_dataset(dataset, cache=home / "cache")
    data = prepare(audit, make_splits(audit), spec.resize, root=dataset.root, cache=home / "cache", store=store)
    return TrainingPlan(
        spec=spec,
        num_classes=len(audit.class_names),
        train_source=data.source("train"),
        val_source=data.source("val"),
        loader=LoaderConfig(image_size=size, batch_size=BATCH),
        architecture=ArchitectureConfig(),
        train=TrainConfig(epochs=1, norm="frozen", augmentation="crop", device="cpu", train_threads=usable_cores()),
        seed=0,
        folder=Path(tempfile.mkdtemp(dir=home)),
        report=silent,
    )


def epoch_s(home: Path, store: Store, *, size: int) -> float:
    """Return the seconds of the steps of an epoch."""
    return fit(plan(home, store, size=size)).history[0].train_time_s


def evaluation_s(home: Path, *, size: int) -> float:
    """Return the seconds of the predictions of val."""
    planned = plan(home, "pixels", size=size)
    model = build_model(planned.spec, planned.architecture, num_classes=planned.num_classes)
    began = time.perf_counter()
    logits_of(model, planned.val_source, normalisation=planned.spec.normalisation, device=torch.device("cpu"))
    return time.perf_counter() - began
