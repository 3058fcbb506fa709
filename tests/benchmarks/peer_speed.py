"""Commands of this project and of others in turn: ``python -m tests.benchmarks.peer_speed DATA OUT ARM=PYTHON ...``.

Each trains the same network from random weights on the same photos at 128 px for two epochs, evaluates val after each,
and predicts test; ours also audits the photos, exports, and measures latency. The arms are those of ``peers.py``, each
with the interpreter of an environment that has its library. OUT, a folder, keeps the results; what it holds is not
repeated. The table is that of docs/performance.md.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from bench.records.store import read_records
from imgcls.data.sources.registry import load_dataset
from imgcls.files import write_text

ROUNDS: Final = {"efficientnet_b0": 2, "resnet50": 1}
ONCE: Final = {"autotimm"}
"""Arms of the first round only: it compiles for minutes."""
EPOCHS: Final = 2
COUNTS: Final = {"train": 480, "val": 96, "test": 96}
OURS: Final = "this project"


def write_split(data: Path, images: Mapping[str, list[str]], folder: Path) -> None:
    """Write hard links to images, whose folder is their class, into a folder for each split."""
    for split, paths in images.items():
        for path in paths:
            link = folder / split / path
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                os.link(data / path, link)


def choose(data: Path) -> dict[str, list[str]]:
    """Return as many random images of each split as ``COUNTS`` says."""
    files = [file.image_id for file in load_dataset(str(data)).files]
    order = np.random.default_rng(0).permutation(len(files))
    images, start = {}, 0
    for split, count in COUNTS.items():
        images[split] = [files[index] for index in order[start : start + count]]
        start += count
    return images


def file_of(out: Path, arm: str, model: str, seed: int) -> Path:
    """Return the file of a result."""
    return out / f"{arm.replace(' ', '-')}-{model}-{seed}.json"


def ours(model: str, seed: int, data: Path, file: Path) -> None:
    """Carry out our command with its defaults, and from random weights."""
    flags = ("--recipe", "finetune", "--weights", "none", "--image-size", "128", "--epochs", str(EPOCHS))
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "bench", "run", model, "--data", str(data), *flags]
        command += ["--seeds", str(seed), "--runtimes", "onnxruntime-cpu", "--results", results]
        # From an empty cache, as a user begins.
        subprocess.run(command, check=True, env={**os.environ, "IMGCLS_CACHE": f"{results}/cache"})
        (record,) = read_records(Path(results))
        outcome = record.finished
        result = {
            "accuracy": outcome.metrics.test_metrics["top1_accuracy"],
            "train_time_s": outcome.training.train_time_s,
            "versions": {"torch": outcome.environment.packages["torch"], "precision": record.config.train.precision},
        }
    write_text(json.dumps(result), file)


def measure(data: Path, out: Path, pythons: Mapping[str, str]) -> None:
    """Carry out what OUT lacks, the arms in turn."""
    script = str(Path(__file__).with_name("peers.py"))
    rounds = [(seed, model) for seed in range(max(ROUNDS.values())) for model in ROUNDS if seed < ROUNDS[model]]
    for seed, model in rounds:
        for arm in (OURS, *pythons):
            file = file_of(out, arm, model, seed)
            if file.exists() or (seed and arm in ONCE):
                continue
            began = time.perf_counter()
            if arm == OURS:
                ours(model, seed, data, file)
            else:
                command = [pythons[arm], script, arm, model, str(seed), str(data), "none", str(EPOCHS), str(file)]
                subprocess.run(command, check=True)
            result = json.loads(file.read_text(encoding="utf-8"))
            write_text(json.dumps(result | {"command_s": time.perf_counter() - began}), file)


def table(out: Path, pythons: Mapping[str, str]) -> str:
    """Return the medians of each arm, and of its ratios to ours in the same round."""
    lines = [
        "| arm | model | rounds | steps, s | whole command, s | steps over ours | command over ours | versions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, rounds in ROUNDS.items():
        own = [json.loads(file_of(out, OURS, model, seed).read_text()) for seed in range(rounds)]
        for arm in (OURS, *pythons):
            files = [file_of(out, arm, model, seed) for seed in range(1 if arm in ONCE else rounds)]
            results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            steps, command = (_medians(results, own, key) for key in ("train_time_s", "command_s"))
            versions = ", ".join(f"{name} {value}" for name, value in results[0]["versions"].items())
            lines.append(
                f"| {arm} | {model} | {len(results)} | {steps[0]:.0f} | {command[0]:.0f} | {steps[1]} | {command[1]} "
                f"| {versions} |"
            )
    return "\n".join(lines)


def _medians(results: list[dict[str, Any]], ours: list[dict[str, Any]], key: str) -> tuple[float, str]:
    ratios = [theirs[key] / own[key] for theirs, own in zip(results, ours, strict=False)]
    return median(result[key] for result in results), f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(data: str, out: str, *arms: str) -> None:
    """Measure, and print the table."""
    pythons, folder = dict(arm.split("=", 1) for arm in arms), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_split(Path(data), choose(Path(data)), folder / "images")
    measure(folder / "images", folder, pythons)
    print(table(folder, pythons))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
