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
from bench.runs.execution import fit
from bench.runs.preparation import prepare
from imgcls.training.events import silent

MODELS: Final = ("mobilenetv2_100", "tf_efficientnet_lite0")
SEEDS: Final = (0,)
SHARED: Final = {"folds": 2, "fold": 0, "image_size": 128, "epochs": 5, "precision": "fp32", "train_threads": 1}
BASE: Final = {
    "optimizer": "adamw",
    "lr": 5e-4,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup": 0.1,
    "augmentation": "crop",
    "label_smoothing": 0.1,
    "tune_layers": "head-then-all",
    "layer_decay": 0.9,
    "freeze_norm": True,
}
FACTORS: Final[dict[str, dict[str, Any] | None]] = {
    "standard": None,
    "base": {},
    "lr=1e-3": {"lr": 1e-3},
    "lr=2.5e-4": {"lr": 2.5e-4},
    "lr=2e-3": {"lr": 2e-3},
    "lr=4e-3": {"lr": 4e-3},
    "adam": {"optimizer": "adam", "weight_decay": 0.0, "layer_decay": 1.0},
    "plateau": {"schedule": "plateau", "warmup": 0.0},
    "warmup=0": {"warmup": 0.0},
    "weight_decay=0": {"weight_decay": 0.0},
    "augmentation=report": {"augmentation": "report"},
    "augmentation=trivial": {"augmentation": "trivial"},
    "label_smoothing=0": {"label_smoothing": 0.0},
    "tune_layers=all": {"tune_layers": "all"},
    "tune_layers=head": {"tune_layers": "head"},
    "layer_decay=1": {"layer_decay": 1.0},
    "layer_decay=0.8": {"layer_decay": 0.8},
    "ema=0.98": {"ema": 0.98},
    "freeze_norm=false": {"freeze_norm": False},
    "batch_size=16": {"batch_size": 16},
}
"""Changes to ``BASE`` by name; ``standard`` is the recipe of that name."""


def config_of(model: str, factor: str) -> RunConfig:
    """Return the config of a factor."""
    changes = FACTORS[factor]
    if changes is None:
        return with_overrides(RECIPES["standard"](model), SHARED)
    return with_overrides(RECIPES["finetune"](model), SHARED | BASE | changes)


def train(data: str, weights: str, out: Path, factors: list[str]) -> None:
    """Train what OUT does not hold yet, and add it."""
    done = {(one["factor"], one["model"], one["seed"]) for one in results(out)}
    for seed in SEEDS:
        for factor in factors:
            for model in MODELS:
                if (factor, model, seed) not in done:
                    line = {"factor": factor, "model": model, "seed": seed, **_fit(data, weights, model, factor, seed)}
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")


def _fit(data: str, weights: str, model: str, factor: str, seed: int) -> dict[str, Any]:
    config = replace(config_of(model, factor), seed=seed)
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
    """Print the means over seeds, of each model and of both."""
    found: defaultdict[str, defaultdict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in results(out):
        found[one["factor"]][one["model"]].append(one)
    for factor, models in found.items():
        cells = [f"{factor:22}"]
        for ones in (*(models[model] for model in MODELS), [one for each in models.values() for one in each]):
            accuracy, loss = (mean(one[key] for one in ones or [dict.fromkeys(KEYS, float("nan"))]) for key in KEYS)
            cells.append(f"{100 * accuracy:5.1f} {loss:6.3f} ({len(ones)})")
        print("   ".join(cells))  # noqa: T201


KEYS: Final = ("val_top1_accuracy", "val_loss")

if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:] or list(FACTORS))
    table(Path(sys.argv[3]))
