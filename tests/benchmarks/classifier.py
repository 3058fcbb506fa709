"""The classifier alone, fitted as linear heads and by gradient: ``python -m tests.benchmarks.classifier DATA WEIGHTS``.

Trains on one half of the data (``--folds 2 --fold 0``) at 128 px, prints accuracy and loss on its val split, and never
reads the other half. The gradient is that of networks without linear heads, here with several learning rates.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from bench.config import with_overrides
from bench.harness import planner
from bench.recipes import finetune
from bench.runs.execution import prepare
from imgcls.models.building import build_model
from imgcls.training.events import silent
from imgcls.training.heads import gradient as gradient_head
from imgcls.training.heads.linear import fit_head
from imgcls.training.loop import use_threads
from imgcls.training.plan import TrainingPlan

MODELS: Final = ("mobilenetv2_100", "tf_efficientnet_lite0")
RATES: Final = (1e-3, 3e-3, 1e-2, 3e-2)
OVERRIDES: Final = {"folds": 2, "fold": 0, "image_size": 128, "precision": "fp32"}


def main(data: str, weights: str) -> None:
    """Fit each model's classifier in each way."""
    threads = use_threads(0)
    for model in MODELS:
        config = with_overrides(finetune(model), OVERRIDES)
        with tempfile.TemporaryDirectory() as results:
            task = planner([config], data=data, weights=weights, results=Path(results))(config)
            prepared = prepare(task)
        for rate in (None, *RATES):
            gradient_head.HEAD_LR = rate or gradient_head.HEAD_LR  # type: ignore[misc]
            heads = task.spec.structure.heads if rate is None else ()
            torch.manual_seed(0)
            plan = TrainingPlan(
                spec=replace(task.spec, structure=replace(task.spec.structure, heads=heads)),
                num_classes=len(task.dataset.class_names),
                train_source=prepared.source("train"),
                val_source=prepared.source("val"),
                loader=task.config.loader,
                architecture=task.config.architecture,
                train=replace(task.config.train, device="cpu", train_threads=threads),
                seed=0,
                folder=Path(),
                report=silent,
            )
            network = build_model(task.spec, plan.architecture, num_classes=plan.num_classes)
            started = time.perf_counter()
            result = fit_head(network, plan).epoch
            name = "linear heads" if rate is None else f"gradient, lr {rate:g}"
            accuracy, took = 100 * result.val_top1_accuracy, time.perf_counter() - started
            print(f"{model}, {name}: val {accuracy:.1f} %, loss {result.val_loss:.3f}, {took:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
