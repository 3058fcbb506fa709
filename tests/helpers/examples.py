"""Synthetic records."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import RunConfig
from bench.latency.protocol import PROTOCOL_VERSION, Protocol
from bench.recipes import RECIPES
from bench.records.environment import Environment
from bench.records.ids import hash_of
from bench.records.measurements import Disturbance, Measurement
from bench.records.predictions import StoredPredictions
from bench.records.schema import (
    SCHEMA_VERSION,
    ArtifactInfo,
    DatasetInfo,
    Latency,
    ModelInfo,
    Outcome,
    RunRecord,
    Scores,
    TrainingInfo,
)
from bench.records.store import record_path, write_json
from bench.stats.macro import macro_scores
from imgcls.config import SplitConfig
from imgcls.evaluation.results import Parity
from imgcls.training.events import EpochResult

ENVIRONMENT = Environment(
    machine="some-cpu-2-cores",
    os="Linux x86_64",
    cpu_model="Some CPU",
    cpu_count=2,
    ram_bytes=2**34,
    gpu_name=None,
    gpu_driver=None,
    cuda_version=None,
    python_version="3.11.7",
    packages={"torch": "2.15.0", "timm": "1.0.31", "onnxruntime-gpu": "1.31.1"},
    git_commit="0" * 40,
    git_dirty=False,
)
SHORT = Protocol(
    name="quick",
    rounds=1,
    duration_s=0.1,
    min_queries=5,
    batch_sizes=(8,),
    batch_duration_s=0.0,
    min_batches=3,
    files=True,
)
EPOCH = EpochResult(
    epoch=1,
    train_loss=1.0,
    val_loss=1.0,
    val_top1_accuracy=0.5,
    lr=1e-3,
    train_time_s=10.0,
    eval_time_s=1.0,
    images=80,
)


def dataset(class_names: tuple[str, ...] = ("cat", "dog")) -> DatasetInfo:
    counts = tuple(10 + label for label in range(len(class_names)))
    return DatasetInfo(
        name="pets",
        digest="d" * 16,
        split_digest="s" * 16,
        split_source="ours",
        class_names=class_names,
        counts={"train": tuple(8 * count for count in counts), "val": counts, "test": counts},
        removed={"empty": 2},
        undersampled=0,
        duplicate_groups=1,
        duplicates_across_splits=0,
        missing=(),
    )


def outcome(info: DatasetInfo, accuracy: float) -> Outcome:
    test = info.counts["test"]
    matrix = confusion(test, accuracy)
    scores = {"top1_accuracy": accuracy, "macro_f1": accuracy, "balanced_accuracy": accuracy, "log_loss": 1.0}
    scores["ece"] = 0.1
    return Outcome(
        environment=ENVIRONMENT,
        model=ModelInfo(
            name="resnet50",
            timm_name="resnet50.a1_in1k",
            init="random",
            weights_tag="random",
            weights_sha256=None,
            image_size=64,
            interpolation="bicubic",
            crop_pct=None,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            notes=(),
            num_params=23_000_000,
            gmacs=0.335,
            uncounted_operators={},
        ),
        training=TrainingInfo(
            epochs=1,
            steps=3,
            best_epoch=1,
            resumed_from=(),
            train_time_s=10.0,
            eval_time_s=1.0,
            train_img_per_s=8.0,
            num_threads=2,
            device="cpu",
            memory_format="channels_last",
            peak_memory_bytes=2**30,
            peak_gpu_memory_bytes=None,
            history=(EPOCH,),
        ),
        metrics=Scores(
            val_metrics=scores,
            test_metrics=scores | measures_of(matrix),
            test_confusion_matrix=matrix,
        ),
        artifact=ArtifactInfo(
            size_bytes=10**8,
            checkpoint_size_bytes=10**8,
            sha256="a" * 64,
            parity=Parity(max_rel_logit_error=1e-6, top1_agreement=1.0, flips=()),
        ),
    )


def confusion(counts: tuple[int, ...], accuracy: float) -> tuple[tuple[int, ...], ...]:
    """Return a confusion matrix with about this accuracy; errors are predicted as the next class."""
    rows = np.zeros((len(counts), len(counts)), dtype=int)
    for label, count in enumerate(counts):
        rows[label, label] = round(accuracy * count)
        rows[label, (label + 1) % len(counts)] += count - rows[label, label]
    return tuple(map(tuple, rows.tolist()))


def measures_of(matrix: tuple[tuple[int, ...], ...]) -> dict[str, float]:
    """Return the test metrics that follow from a confusion matrix."""
    counts = np.array(matrix)
    f1, balanced = macro_scores(counts)
    top1 = float(np.trace(counts) / np.sum(counts))
    return {"top1_accuracy": top1, "macro_f1": f1, "balanced_accuracy": balanced}


def predictions_of(
    right: np.ndarray, labels: np.ndarray, *, classes: int, confidence: float = 0.7, **changes: Any
) -> StoredPredictions:
    """Return predictions for synthetic images; errors are predicted as the next class."""
    shares = np.full(len(labels), confidence, dtype=np.float32)
    made = StoredPredictions(
        image_ids=tuple(f"{number:06d}.png" for number in range(len(labels))),
        labels=labels.astype(np.int32),
        predicted=np.where(right, labels, (labels + 1) % classes).astype(np.int32),
        group=np.arange(len(labels), dtype=np.int32),
        log_p_true=np.log(np.where(right, shares, 1 - shares)),
        log_p_predicted=np.log(shares),
    )
    return replace(made, **changes)


def data_of(labels: np.ndarray, class_names: tuple[str, ...], **changes: Any) -> DatasetInfo:
    """Return a data set with these test labels, eight times as many in train, and as many in val."""
    counts = tuple(np.bincount(labels, minlength=len(class_names)).tolist())
    splits = {"train": tuple(8 * count for count in counts), "val": counts, "test": counts}
    return replace(dataset(class_names), counts=splits, **changes)


def keep(results: Path, model: str, predictions: StoredPredictions, info: DatasetInfo, **changes: Any) -> RunRecord:
    """Write the record and predictions of a run into a results folder, as a real run does."""
    classes = len(info.class_names)
    made = outcome(info, float(predictions.right.mean()))
    # Rows of one architecture and image size share their latency.
    made = replace(made, model=replace(made.model, name=model, timm_name=model))
    matrix = np.zeros((classes, classes), dtype=int)
    np.add.at(matrix, (predictions.labels, predictions.predicted), 1)
    rows = tuple(map(tuple, matrix.tolist()))
    metrics = made.metrics.test_metrics | measures_of(rows)
    scores = replace(made.metrics, test_metrics=metrics, test_confusion_matrix=rows)
    seed, split = changes.pop("seed", 0), changes.pop("split", SplitConfig())
    config = replace(changes.pop("config", RECIPES["quick"]("resnet50")), dataset=info.name, model=model)
    config = replace(config, seed=seed, split=split)
    run_id = hash_of([config, changes.get("init")])
    whole = {"config": config, "outcome": replace(made, metrics=scores), "train_id": run_id, "run_id": run_id}
    kept = record(info=info, **(whole | changes))
    write_json(kept, record_path(results, kept))
    stored = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    stored = {name: value for name, value in stored.items() if value is not None}
    stored["image_ids"] = np.array(predictions.image_ids)
    np.savez_compressed(record_path(results, kept).with_suffix(".npz"), **stored)
    return kept


def disturbance(**changes: Any) -> Disturbance:
    quiet = Disturbance(others_share=0.01, steal_share=0.0, cpu_mhz=2600.0, anchor_ms=2.0)
    return replace(quiet, **changes)


def measurement(runtime: str = "pytorch-cpu", batch_size: int = 1) -> Measurement:
    samples = np.random.default_rng(0).normal(10, 1, 100).round(4)
    return Measurement(
        runtime=runtime,
        batch_size=batch_size,
        status="ok",
        protocol="quick",
        protocol_version=PROTOCOL_VERSION,
        provider="cpu",
        precision="fp32",
        num_threads=1,
        num_queries=100,
        samples_ms=tuple(samples.tolist()),
    )


def record(*, accuracy: float = 0.8, info: DatasetInfo | None = None, **changes: Any) -> RunRecord:
    info = info or dataset()
    config: RunConfig = changes.pop("config", replace(RECIPES["quick"]("resnet50"), dataset="pets"))
    run_id = changes.pop("run_id", hash_of([config, accuracy]))
    whole = RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        train_id="t" * 16,
        status="ok",
        started_at="2026-01-01T00:00:00+00:00",
        duration_s=12.0,
        error=None,
        config=config,
        environment=ENVIRONMENT,
        dataset=info,
        init="random",
        outcome=outcome(info, accuracy),
    )
    rows = changes.pop("measurements", (measurement(), measurement(batch_size=32)))
    checks = changes.pop("checks", ())
    made = replace(whole, **changes)
    return made.with_latency(Latency(environment=made.environment, measurements=rows, checks=checks))
