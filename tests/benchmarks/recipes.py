"""Recipes on photos that no choice has seen: ``python -m tests.benchmarks.recipes DATA WEIGHTS OUT [PEER_PYTHON]``.

Trains on one half of the data (``--folds 2 --fold 0``) at 128 px for 5 epochs, scores the other half, and prints
accuracies, training times, and differences with their 95 % intervals. Arms alternate within each seed. What OUT, a
folder, holds is not repeated. PEER_PYTHON is an interpreter that has fastai and timm: it runs ``peers.py`` on the same
images.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Final

import numpy as np
import torch

from bench.config import with_overrides
from bench.harness import planner
from bench.recipes import RECIPES
from bench.runs.execution import fit, prepare
from bench.runs.plan import Task
from bench.stats.pairs import compare_pair
from imgcls.evaluation.forward import predict_split
from imgcls.files import write_text
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import save_trained
from imgcls.training.events import silent
from tests.benchmarks.peer_speed import file_of, write_split

MODELS: Final = ("mobilenetv2_100", "tf_efficientnet_lite0")
SEEDS: Final = range(5)
EPOCHS: Final = 5
SHARED: Final = {"folds": 2, "fold": 0, "image_size": 128, "epochs": EPOCHS}
ARMS: Final = {
    "standard": ("standard", {"precision": "fp32"}),
    "finetune": ("finetune", {"precision": "fp32"}),
    "finetune bf16": ("finetune", {"precision": "bf16"}),
}
"""Recipe and overrides by name."""
COMPARED: Final = (("standard", "finetune"), ("finetune", "finetune bf16"))
PEERS: Final = ("fastai", "timm")
PEER_SEEDS: Final = range(1)

Result = dict[str, Any]


def train(data: str, weights: str, out: Path, arms: Sequence[str]) -> None:
    """Train what is not done."""
    for model in MODELS:
        for seed in SEEDS:
            for arm in arms:
                if not file_of(out, arm, model, seed).exists():
                    _train(data, weights, out, arm=arm, model=model, seed=seed)


def _train(data: str, weights: str, out: Path, *, arm: str, model: str, seed: int) -> None:  # noqa: PLR0913
    recipe, overrides = ARMS[arm]
    config = replace(with_overrides(RECIPES[recipe](model), SHARED | overrides), seed=seed)
    with tempfile.TemporaryDirectory() as home:
        task = planner([config], data=data, weights=weights, results=Path(home))(config)
        result = _scored(task, out)
    write_text(json.dumps(result), file_of(out, arm, model, seed))


def _scored(task: Task, out: Path) -> Result:
    """Train, predict test once, and return whether each image is right, and the training time."""
    prepared = prepare(task)
    images = {split: prepared.image_ids(split) for split in ("train", "val", "test")}
    write_text(json.dumps(images), out / "images.json")
    folder = task.paths.artifacts(task.train_id)
    folder.mkdir(parents=True)
    training = fit(task, train_source=prepared.source("train"), val_source=prepared.source("val"), report=silent)
    save_trained(training.state, task.spec, num_classes=len(task.dataset.class_names), path=folder / WEIGHTS)
    test = predict_split(folder / WEIGHTS, prepared, "test", spec=task.spec, device=torch.device("cpu"))
    assert test.groups is not None
    return {
        "right": (test.logits.argmax(axis=1) == test.labels).tolist(),
        "groups": test.groups.tolist(),
        "train_time_s": training.head_time_s + sum(epoch.train_time_s for epoch in training.history),
    }


def compare(out: Path) -> None:
    """Print each model's accuracies on test, the differences between arms, and the ratios of their times."""
    for model in MODELS:
        results = {
            arm: [json.loads(file.read_text()) for seed in SEEDS if (file := file_of(out, arm, model, seed)).exists()]
            for arm in ARMS
        }
        for arm, found in results.items():
            if found:
                line(model, arm, [100 * mean(one["right"]) for one in found], [one["train_time_s"] for one in found])
        for first, second in COMPARED:
            if len(results[first]) == len(results[second]) > 0:
                _difference(f"{model}: {second} - {first}", results[first], results[second])


def _difference(title: str, first: Sequence[Result], second: Sequence[Result]) -> None:
    rights = [np.array([one["right"] for one in results]) for results in (first, second)]
    found = compare_pair(rights[1], rights[0], groups=np.array(first[0]["groups"]))
    low, high = found.interval.low, found.interval.high
    ratios = [ours["train_time_s"] / theirs["train_time_s"] for theirs, ours in zip(first, second, strict=True)]
    print(  # noqa: T201
        f"{title}: {100 * found.difference:+.1f} pp ({100 * low:+.1f} to {100 * high:+.1f}), p = {found.p_value:.2g}, "
        f"{rights[0].shape[1]} images; training time x {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def line(model: str, name: str, accuracies: Sequence[float], times: Sequence[float]) -> None:
    """Print the accuracies of the seeds in per cent, and the median training time."""
    each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
    print(f"{model:22} {name:14} {mean(accuracies):5.1f} % ({each}); {median(times):.0f} s")  # noqa: T201


def peers(python: str, data: str, weights: str, out: Path) -> None:
    """Run the peers that have no result in OUT yet, and print theirs."""
    write_split(Path(data), json.loads((out / "images.json").read_text(encoding="utf-8")), out / "images")
    for model in MODELS:
        for peer in PEERS:
            results = []
            for seed in PEER_SEEDS:
                file = file_of(out, peer, model, seed)
                if not file.exists():
                    script = str(Path(__file__).with_name("peers.py"))
                    images = str(out / "images")
                    command = [python, script, peer, model, str(seed), images, weights, str(EPOCHS), str(file)]
                    subprocess.run(command, check=True)
                results.append(json.loads(file.read_text(encoding="utf-8")))
            line(model, peer, [100 * one["accuracy"] for one in results], [one["train_time_s"] for one in results])


def main(data: str, weights: str, out: Path, python: str | None = None) -> None:
    """Train what OUT lacks, and print the comparison."""
    train(data, weights, out, ["standard", "finetune"])
    train(data, weights, out, ["finetune bf16"])
    compare(out)
    if python is not None:
        peers(python, data, weights, out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
