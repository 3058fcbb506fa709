"""Trainings that one process and several carry out: ``torchrun ... ranks.py FOLDER`` writes those of several."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import torch

from imgcls.config import ArchitectureConfig, TrainConfig
from imgcls.errors import RunError
from imgcls.evaluation.forward import logits_of
from imgcls.models.building import build_model
from imgcls.training import fitting, ranks, steps
from imgcls.training.events import EpochResult, Report
from imgcls.training.plan import TrainingPlan
from tests.helpers.trainings import CPU, setting, source, spec

CASES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "micro-batches": {"micro_batch": 2},
    "a last batch that is too small": {"batch_size": 12, "images": 39},
    "cutmix": {"augmentation": "cutmix"},
    "randaugment": {"augmentation": "randaugment"},
    "average of the weights": {"ema": 0.9},
    "budget of images": {"budget": "images=60"},
    "balanced sampler": {"imbalance": "balanced-sampler", "augmentation": "report"},
    "class weights": {"imbalance": "class-weights"},
}
"""Settings by name: fields of the configs, and the number of train images."""


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What a training ended with."""

    train_loss: list[float]
    val_loss: list[float]
    lr: list[float]
    images: list[int]
    logits: list[list[float]]
    resumed_from: list[int]


def plan_of(name: str, folder: Path, *, devices: int, **changes: Any) -> TrainingPlan:
    """Return the plan of a case; norms are frozen, because their statistics are of a process's own images."""
    values = dict(CASES[name])
    size, micro, images = (values.pop(key, default) for key, default in _LOADER.items())
    defaults = {"epochs": 2, "lr": 1e-3, "norm": "frozen", "augmentation": "crop"}
    base = setting(folder, train=TrainConfig(**(defaults | values)), train_source=source(images, 1), **changes)
    return replace(
        base,
        train=replace(base.train, devices=devices),
        loader=replace(base.loader, batch_size=size, micro_batch=micro),
        architecture=ArchitectureConfig(),  # without dropout, which each process draws for itself
    )


_LOADER: Final[dict[str, Any]] = {"batch_size": 8, "micro_batch": None, "images": 40}


def finish(plan: TrainingPlan) -> Finished:
    """Carry out a training, and predict val with its weights."""
    training = fitting.fit(plan)
    model = build_model(spec(), ArchitectureConfig(), num_classes=3)
    model.load_state_dict(training.state)
    logits = logits_of(model, plan.val_source, normalisation=spec().normalisation, device=CPU)
    return Finished(
        train_loss=[epoch.train_loss for epoch in training.history],
        val_loss=[epoch.val_loss for epoch in training.history],
        lr=[epoch.lr for epoch in training.history],
        images=[epoch.images for epoch in training.history],
        logits=logits.tolist(),
        resumed_from=list(training.resumed_from),
    )


class Stop(Exception):  # noqa: N818 - not an error
    """The first process is asked to stop."""


def _stop_after_an_epoch() -> Report:
    def report(event: object) -> None:
        if isinstance(event, EpochResult):
            raise Stop

    return report


def _error_of(plan: TrainingPlan) -> str:
    try:
        fitting.fit(plan)
    except (RunError, Stop) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def main(folder: Path) -> None:
    """Carry out all cases, and the faults, as one of several processes."""
    world, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    with ranks.joined(TrainConfig(device="cpu", devices=world)):
        results = {name: finish(plan_of(name, folder / name, devices=world)) for name in CASES}
        stopped = _error_of(plan_of("plain", folder / "stopped", devices=world, report=_stop_after_an_epoch()))
        results["resumed"] = finish(plan_of("plain", folder / "stopped", devices=world))
        _error_of(plan_of("plain", folder / "with fewer", devices=world, report=_stop_after_an_epoch()))
        real, calls = steps.training_loss, list[int]()

        def poisoned(*arguments: Any) -> torch.Tensor:
            calls.append(1)
            return real(*arguments) * (np.nan if rank == 1 and len(calls) == 3 else 1)

        steps.training_loss = poisoned
        nan = _error_of(plan_of("plain", folder / "nan", devices=world))
    (folder / f"{rank}.json").write_bytes(msgspec.json.encode((results, {"stopped": stopped, "nan": nan})))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
