"""Results folders of many records with predictions, as thousands of runs leave them."""

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from bench.config import Budget
from bench.recipes import RECIPES
from bench.records.measurements import Measurement
from bench.records.paths import Paths
from bench.records.predictions import StoredPredictions
from bench.records.schema import DatasetInfo, RunRecord
from bench.records.store import write_with_digest
from imgcls.parallel import usable_cores
from tests.helpers import examples

RECORDS_OF_A_TABLE: Final = 100
SEEDS: Final = (1, 2, 5)
"""Seeds of each row, in turn over the tables: tables of 100, 50 and 20 rows."""
EPOCHS: Final = 10
RUNTIMES: Final = ("pytorch-cpu", "onnxruntime-cpu")
SAMPLES: Final = 300
CLASSES: Final = (6, 10)
TEST_IMAGES: Final = (200, 500)
MANY_CLASSES: Final = 20
MANY_ROWS: Final = 4
"""Rows of the table whose test split is large."""


def write_records(folder: Path, count: int) -> None:
    """Write ``count`` records of tables of 100 records each, of different data, splits and budgets; on all cores."""
    numbers = range(0, count, RECORDS_OF_A_TABLE)
    with ProcessPoolExecutor(usable_cores()) as pool:
        list(pool.map(partial(_write_table, folder, count), numbers))


def _write_table(folder: Path, count: int, start: int) -> None:
    table = start // RECORDS_OF_A_TABLE
    rng, seeds, classes = np.random.default_rng(table), SEEDS[table % len(SEEDS)], CLASSES[table % len(CLASSES)]
    labels = np.sort(rng.integers(0, classes, int(rng.integers(*TEST_IMAGES))))
    # Every second table has the data of the one before it, with another budget.
    name = f"photos-{table // 2:02d}"
    info = examples.data_of(labels, tuple(f"class {label}" for label in range(classes)))
    info = replace(info, name=name, digest=f"{table // 2:016x}", split_digest=f"{table // 2:016x}")
    for number in range(min(RECORDS_OF_A_TABLE, count - start)):
        row, seed = divmod(number, seeds)
        predictions = _predictions(rng, labels, classes, accuracy=0.6 + 0.3 * row * seeds / RECORDS_OF_A_TABLE)
        _keep(folder, predictions, info, model=f"model-{row:02d}", seed=seed, epochs=EPOCHS * (1 + table % 2))


def write_large_test_split(folder: Path, images: int) -> None:
    """Write the records of a table of four rows, two seeds each, whose test split has ``images`` images."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, MANY_CLASSES, images))
    info = examples.data_of(labels, tuple(f"class {label}" for label in range(MANY_CLASSES)))
    for row in range(MANY_ROWS):
        for seed in range(2):
            predictions = _predictions(rng, labels, MANY_CLASSES, accuracy=0.8 + row / 50)
            _keep(folder, predictions, info, model=f"model-{row:02d}", seed=seed, epochs=EPOCHS)


def _predictions(rng: np.random.Generator, labels: np.ndarray, classes: int, accuracy: float) -> StoredPredictions:
    right = rng.random(len(labels)) < accuracy
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    confidence = np.clip(rng.beta(6, 2, len(labels)), 0.05, 0.999).astype(np.float32)
    log_p_true = np.log(np.where(right, confidence, (1 - confidence) / 2))
    return examples.predictions_of(
        right,
        labels,
        classes=classes,
        predicted=np.where(right, labels, others).astype(np.int32),
        log_p_true=log_p_true,
        log_p_predicted=np.log(confidence),
        log_p_true_calibrated=(log_p_true * np.float32(0.9)).astype(np.float32),
    )


def _keep(  # noqa: PLR0913 - what differs between the runs
    folder: Path, predictions: StoredPredictions, info: DatasetInfo, *, model: str, seed: int, epochs: int
) -> RunRecord:
    """Write a record as a real run does: with a history, measurements and the digests of both files."""
    base = RECIPES["quick"]("resnet50")
    config = replace(base, budget=Budget(amount=epochs, image_size=64), train=replace(base.train, epochs=epochs))
    measured = tuple(_measurement(runtime, len(model) + seed) for runtime in RUNTIMES)
    kept = examples.keep(folder, model, predictions, info, seed=seed, config=config, measurements=measured)
    history = tuple(replace(examples.EPOCH, epoch=epoch + 1) for epoch in range(epochs))
    outcome = replace(kept.finished, training=replace(kept.finished.training, history=history, epochs=epochs))
    path = Paths(results=folder).record(kept.environment.machine, kept.run_id)
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    whole = replace(kept, outcome=outcome, predictions_sha256=digest)
    write_with_digest(whole, path)
    return whole


def _measurement(runtime: str, seed: int) -> Measurement:
    samples = np.random.default_rng(seed).normal(10, 1, SAMPLES).round(4).tolist()
    return replace(examples.measurement(runtime), num_queries=SAMPLES, samples_ms=tuple(samples))
