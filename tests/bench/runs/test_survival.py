"""SIGKILL of the real command at random times: the final files equal those of an uninterrupted run."""

import random
import time
from pathlib import Path

import numpy as np

from bench.records.store import read_records
from imgcls.evaluation.predictions import load_predictions
from tests.helpers.commands import bench_here, kill, start

KILLS = 5
TRAINING = ("--image-size", "32", "--epochs", "12", "--dropout", "0.3", "--train-threads", "1")
FLAGS = ("test_efficientnet", "--weights", "none", *TRAINING, "--runtimes", "onnxruntime-cpu")


def finished(results: Path) -> tuple[bytes, np.ndarray, tuple[int, ...]]:
    """Return the final weights, the test logits, and the epochs after which the run was stopped."""
    (record,) = read_records(results)
    assert record.outcome is not None, record.error
    folder = results / "artifacts" / record.train_id
    logits = load_predictions(folder / "test_logits.npz").logits
    return (folder / "model.safetensors").read_bytes(), logits, record.outcome.training.resumed_from


def killed_once(flags: tuple[str, ...], rng: random.Random, *, in_training: bool) -> bool:
    """Start the command and kill it a random time after its start or its first epoch; False if it had ended."""
    process = start("run", *flags)
    assert process.stdout is not None
    for line in process.stdout:
        if ("  epoch " if in_training else "[1/1]") in line:
            break
    time.sleep(rng.uniform(0, 2) if in_training else rng.uniform(3, 10))
    ended = process.poll() is not None
    kill(process)
    return not ended


def test_five_kills_do_not_change_the_result(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"times drawn with seed {seed}")  # noqa: T201 - pytest shows it if the test fails
    status, output = bench_here("run", *FLAGS, "--results", str(tmp_path / "whole"))
    assert status == 0, output
    flags = (*FLAGS, "--results", str(tmp_path / "killed"))
    rng = random.Random(seed)  # noqa: S311 - not for cryptography
    kills = sum(killed_once(flags, rng, in_training=number % 2 == 0) for number in range(KILLS))
    status, output = bench_here("run", *flags)
    assert status == 0, output
    weights, logits, _ = finished(tmp_path / "whole")
    weights_after, logits_after, resumed = finished(tmp_path / "killed")
    assert kills >= 1
    assert resumed
    assert weights == weights_after
    assert (logits == logits_after).all()
