"""Recipes on photos that no choice has seen: ``python -m tests.benchmarks.recipes DATA WEIGHTS OUT [PEER_PYTHON]``.

Trains ``standard`` and ``finetune`` on one half of the data at 128 px for 5 epochs, scores the other half, and prints
accuracies, times, and the differences with their 95 % intervals. Seeds alternate between recipes. Finished runs in OUT
are not repeated. PEER_PYTHON is an interpreter that has fastai and timm: it runs ``peers.py`` on the same images.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Final

import numpy as np

from bench.harness import planner
from bench.recipes import configs_of
from bench.records.predictions import read_answers
from bench.records.schema import RunRecord
from bench.runs.local import train_here
from bench.runs.preparation import prepare
from bench.stats.pairs import compare_pair

MODELS: Final = ("mobilenetv2_100", "tf_efficientnet_lite0")
SEEDS: Final = range(5)
RECIPES: Final = ("standard", "finetune")
SHARED: Final = {"folds": 2, "fold": 0, "image_size": 128, "epochs": 5, "precision": "fp32"}
PEERS: Final = ("fastai", "timm")
PEER_SEEDS: Final = range(2)


def train(data: str, weights: str, out: Path) -> dict[tuple[str, str], list[RunRecord]]:
    """Train what is not done, and return the records of each model and recipe, in order of seeds."""
    configs = {
        (model, recipe, seed): config
        for seed in SEEDS
        for model in MODELS
        for recipe in RECIPES
        for config in configs_of([model], recipe=recipe, seeds=[seed], overrides=SHARED)
    }
    plan = planner(list(configs.values()), data=data, weights=weights, results=out)
    tasks = {key: plan(config) for key, config in configs.items()}
    # The division of the images, which peers read.
    first = tasks[next(iter(tasks))]
    prepared = prepare(first)
    files = {split: prepared.image_ids(split) for split in ("train", "val", "test")}
    (out / "images.json").write_text(json.dumps(files), encoding="utf-8")
    records = dict(zip(tasks, train_here(list(tasks.values())), strict=True))
    return {(model, recipe): [records[model, recipe, seed] for seed in SEEDS] for model in MODELS for recipe in RECIPES}


def minutes(record: RunRecord) -> float:
    """Return the training time of a run in minutes."""
    assert record.outcome is not None, record.error
    return record.outcome.training.train_time_s / 60


def compare(records: dict[tuple[str, str], list[RunRecord]], out: Path) -> None:
    """Print each model's accuracies on test, the difference between the recipes, and the ratio of their times."""
    for model in MODELS:
        rights = []
        for recipe in RECIPES:
            runs = records[model, recipe]
            answers = [read_answers(record, out) for record in runs]
            right = np.stack([answer.right for answer in answers if answer is not None])
            rights.append(right)
            line(model, recipe, [100 * float(one.mean()) for one in right], [minutes(record) for record in runs])
        first = read_answers(records[model, RECIPES[0]][0], out)
        assert first is not None
        found = compare_pair(*rights, groups=first.group)
        low, high = found.interval.low, found.interval.high
        pairs = zip(*(records[model, each] for each in RECIPES), strict=True)
        ratios = [minutes(ours) / minutes(theirs) for theirs, ours in pairs]
        print(  # noqa: T201
            f"{model}: {100 * found.difference:+.1f} pp ({100 * low:+.1f} to {100 * high:+.1f}), "
            f"p = {found.p_value:.2g}, {right.shape[1]} test images; "
            f"time x {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def line(model: str, name: str, accuracies: Sequence[float], times: Sequence[float]) -> None:
    """Print the accuracies of the seeds in per cent, and the training time."""
    each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
    print(f"{model:22} {name:10} {mean(accuracies):5.1f} % ({each}); {median(times):.2f} min")  # noqa: T201


def peers(python: str, data: str, weights: str, out: Path) -> None:
    """Run the peers that have no result in OUT yet, and print theirs."""
    for model in MODELS:
        for peer in PEERS:
            results = []
            for seed in PEER_SEEDS:
                file = out / f"{peer}-{model}-{seed}.json"
                if not file.exists():
                    script = Path(__file__).with_name("peers.py")
                    images = str(out / "images.json")
                    command = [python, str(script), peer, model, str(seed), data, weights, images, str(file)]
                    subprocess.run(command, check=True)
                results.append(json.loads(file.read_text(encoding="utf-8")))
            line(model, peer, [100 * one["accuracy"] for one in results], [one["train_time_s"] / 60 for one in results])


if __name__ == "__main__":
    DATA, WEIGHTS, OUT = sys.argv[1:4]
    Path(OUT).mkdir(parents=True, exist_ok=True)
    compare(train(DATA, WEIGHTS, Path(OUT)), Path(OUT))
    if len(sys.argv) > 4:
        peers(sys.argv[4], DATA, WEIGHTS, Path(OUT))
