"""What a record must satisfy to be read: bounds of its numbers, and agreement of its parts with each other."""

import math
from collections.abc import Iterator, Sequence

from bench.records.measurements import Measurement
from bench.records.schema import LatencyFile, Outcome, RunRecord, Scores

SHARE_METRICS = ("accuracy", "macro_f1", "ece")
"""Parts of the names of metrics that are between 0 and 1; others are losses."""

TOLERANCE = 1e-6
"""Largest accepted difference of an accuracy from that of the confusion matrix; both are ratios of integers."""


def require_valid(content: object) -> None:
    """Raise ValueError with the first fault of a record or a latency file; other content is accepted."""
    if isinstance(content, RunRecord):
        faults = _record_faults(content)
    elif isinstance(content, LatencyFile):
        faults = _measurement_faults(content.latency.measurements)
    else:
        return
    fault = next(faults, None)
    if fault is not None:
        raise ValueError(fault)


def _record_faults(record: RunRecord) -> Iterator[str]:
    if (record.status == "ok") != (record.outcome is not None):
        yield f"status {record.status}, but {'an' if record.outcome else 'no'} outcome"
    yield from _data_faults(record)
    if record.test_scorings < 0 or record.duration_s < 0 or not math.isfinite(record.duration_s):
        yield f"test_scorings {record.test_scorings} or duration_s {record.duration_s} is out of range"
    for latency in record.latency.values():
        yield from _measurement_faults(latency.measurements)
    if record.outcome is not None:
        yield from _outcome_faults(record.outcome, record.dataset.counts["test"])


def _data_faults(record: RunRecord) -> Iterator[str]:
    names, counts = record.dataset.class_names, record.dataset.counts
    if len(set(names)) < len(names) or not all(names) or not names:
        yield "class names are missing, empty or repeated"
    for split in ("train", "val", "test"):
        if split not in counts:
            yield f"no counts of {split}"
        elif len(counts[split]) != len(names) or min(counts[split], default=0) < 0:
            yield f"{len(counts[split])} counts of {split} for {len(names)} classes, or negative ones"
    if not sum(counts["test"]):
        yield "no test images"


def _outcome_faults(outcome: Outcome, test_counts: tuple[int, ...]) -> Iterator[str]:
    model, training, artifact = outcome.model, outcome.training, outcome.artifact
    for name, value, low in (
        ("num_params", model.num_params, 1),
        ("gmacs", model.gmacs, 0),
        ("image_size", model.image_size, 1),
        ("train_time_s", training.train_time_s, 0),
        ("train_img_per_s", training.train_img_per_s, 0),
        ("artifact.size_bytes", artifact.size_bytes, 1),
    ):
        if not low <= value < math.inf:
            yield f"{name} is {value}, not {low} or more"
    yield from _metric_faults(outcome.metrics)
    yield from _matrix_faults(outcome.metrics, test_counts)


def _metric_faults(scores: Scores) -> Iterator[str]:
    for split, metrics in (("val", scores.val_metrics), ("test", scores.test_metrics)):
        if "top1_accuracy" not in metrics:
            yield f"no top1_accuracy of {split}"
    for metrics in (scores.val_metrics, scores.test_metrics, scores.train_metrics):
        for name, value in metrics.items():
            most = 1 if any(part in name for part in SHARE_METRICS) else math.inf
            if not 0 <= value <= most or math.isinf(value):
                yield f"{name} is {value}"


def _matrix_faults(scores: Scores, test_counts: tuple[int, ...]) -> Iterator[str]:
    matrix, stated = scores.test_confusion_matrix, scores.test_metrics["top1_accuracy"]
    if [sum(row) for row in matrix] != list(test_counts) or any(len(row) != len(matrix) for row in matrix):
        yield "the confusion matrix does not have the counts of test"
    elif min(map(min, matrix)) < 0:
        yield "a count of the confusion matrix is negative"
    else:
        right = sum(row[label] for label, row in enumerate(matrix)) / sum(test_counts)
        if abs(right - stated) > TOLERANCE:
            yield f"top1_accuracy of test is {stated:.4f}, but {right:.4f} by the confusion matrix"
        for name, value in _macro_scores(matrix).items():
            if abs(scores.test_metrics.get(name, value) - value) > TOLERANCE:
                yield f"{name} of test is {scores.test_metrics[name]:.4f}, but {value:.4f} by the confusion matrix"


def _macro_scores(matrix: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return the scores that are means over the classes that have images."""
    seen, predicted = list(map(sum, matrix)), list(map(sum, zip(*matrix, strict=True)))
    labels = [label for label, images in enumerate(seen) if images]
    f1 = [2 * matrix[label][label] / (seen[label] + predicted[label]) for label in labels]
    recalls = [matrix[label][label] / seen[label] for label in labels]
    return {"macro_f1": sum(f1) / len(labels), "balanced_accuracy": sum(recalls) / len(labels)}


def _measurement_faults(measurements: tuple[Measurement, ...]) -> Iterator[str]:
    for row in measurements:
        title = f"{row.runtime} at batch {row.batch_size}"
        if row.batch_size < 1 or row.num_queries < len(row.samples_ms):
            yield f"{title}: {len(row.samples_ms)} samples of {row.num_queries} queries"
        # Not a loop over the samples, of which a table of a hundred rows has a million.
        if not min(row.samples_ms, default=1) > 0 or max(row.samples_ms, default=1) == math.inf:
            yield f"{title}: a sample is not a positive time"
        if row.status == "ok" and not row.samples_ms:
            yield f"{title}: ok, but without samples"
