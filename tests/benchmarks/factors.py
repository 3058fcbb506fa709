"""Choose a recipe, one factor at a time, on train and val: ``python -m tests.benchmarks.factors DATA WEIGHTS OUT``.

Trains on half of the data (``--folds 2 --fold 0``) at 128 px for 5 epochs through ``fit``; the test split is not read.
Results go to OUT, a file of JSON lines, so that an interrupted command continues. More words are names of factors.
"""

import json
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, Final

from bench.config import RunConfig, with_overrides
from bench.harness import planner
from bench.recipes import RECIPES
from bench.runs.execution import fit, prepare
from imgcls.training.events import silent

MODELS: Final = ("mobilenetv2_100", "tf_efficientnet_lite0")
SEED: Final = 0
SHARED: Final = {"folds": 2, "fold": 0, "image_size": 128, "epochs": 5, "precision": "fp32", "train_threads": 1}
START: Final = {"layer_decay": 0.9, "label_smoothing": 0.1}
"""What the search started from and the recipe does not have, or has not any more."""
FACTORS: Final[dict[str, dict[str, Any]]] = {
    "recipe": {},
    "start": START,
    "start, lr=2.5e-4": {**START, "lr": 2.5e-4},
    "start, lr=2e-3": {**START, "lr": 2e-3},
    "start, norm=batch": {**START, "norm": "batch"},
    "start, lr=2e-3, norm=batch": {**START, "lr": 2e-3, "norm": "batch"},
    "start, lr=4e-3, norm=batch": {**START, "lr": 4e-3, "norm": "batch"},
    "start, lr=2e-3, norm=batch, tune_layers=all": {
        **START,
        "lr": 2e-3,
        "norm": "batch",
        "tune_layers": "all",
    },
    "start, tune_layers=head": {**START, "tune_layers": "head"},
    "start, layer_decay=1": {**START, "layer_decay": 1.0},
    "start, label_smoothing=0": {**START, "label_smoothing": 0.0},
    "start, augmentation=report": {**START, "augmentation": "report"},
    "start, augmentation=trivialaugment": {**START, "augmentation": "trivialaugment"},
    "start, ema=0.98": {**START, "ema": 0.98},
}
"""Differences from the recipe ``finetune``, by name."""


def config_of(model: str, factor: str) -> RunConfig:
    """Return the config of a factor."""
    return replace(with_overrides(RECIPES["finetune"](model), SHARED | FACTORS[factor]), seed=SEED)


def train(data: str, weights: str, out: Path, factors: list[str]) -> None:
    """Train what OUT does not hold yet, and add it."""
    done = {(one["factor"], one["model"]) for one in results(out)}
    for factor in factors:
        for model in MODELS:
            if (factor, model) not in done:
                line = {"factor": factor, "model": model, **_fit(config_of(model, factor), data, weights)}
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


def _fit(config: RunConfig, data: str, weights: str) -> dict[str, Any]:
    home = Path(tempfile.mkdtemp(prefix="imgcls-factors-"))
    try:
        task = planner([config], data=data, weights=weights, results=home)(config)
        prepared = prepare(task)
        task.paths.artifacts(task.train_id).mkdir(parents=True)
        training = fit(task, train_source=prepared.source("train"), val_source=prepared.source("val"), report=silent)
    finally:
        shutil.rmtree(home)
    best = training.history[training.best_epoch - 1]
    return {
        "val_top1_accuracy": best.val_top1_accuracy,
        "val_loss": best.val_loss,
        "epochs": [round(epoch.val_top1_accuracy, 4) for epoch in training.history],
        "train_time_s": training.head_time_s + sum(epoch.train_time_s for epoch in training.history),
    }


def results(out: Path) -> list[dict[str, Any]]:
    """Return the lines of OUT."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] if out.exists() else []


def table(out: Path) -> None:
    """Print val accuracy (%) and loss of both models, and their means."""
    found: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for one in results(out):
        found[one["factor"]][one["model"]] = one
    print(f"{'':52}" + "".join(f"{name:24}" for name in (*MODELS, "mean")))  # noqa: T201
    for factor, models in found.items():
        if len(models) == len(MODELS):
            rows = [[models[MODELS[0]]], [models[MODELS[1]]], list(models.values())]
            means = [[mean(one[key] for one in row) for key in ("val_top1_accuracy", "val_loss")] for row in rows]
            cells = [f"{100 * accuracy:5.1f} {loss:6.3f}" for accuracy, loss in means]
            print(f"{factor:52}" + "".join(f"{cell:24}" for cell in cells))  # noqa: T201


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:] or list(FACTORS))
    table(Path(sys.argv[3]))
