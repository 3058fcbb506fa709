"""The scores of checkpoints, which tables show one by one."""

from collections.abc import Sequence
from statistics import fmean

from bench.comparison.analysis import Comparison
from bench.comparison.measures import Estimate, of_interval, of_score
from bench.comparison.results.values import CheckpointResult
from bench.comparison.rows import Checkpoint, Row
from bench.comparison.scores import accuracy_interval
from bench.stats.groups import effective_size, meaningful
from bench.stats.intervals import Score, independent_difference


def checkpoint_result(row: Row, checkpoint: Checkpoint, comparison: Comparison) -> CheckpointResult:
    """Return the scores of a checkpoint."""
    outcomes, is_ensemble = checkpoint.outcomes, row.first.ensemble is not None
    key = row.row_id, checkpoint.seed
    intervals, (f1, balanced) = comparison.macros[key], checkpoint.macro_scores
    calibrations = [outcome.metrics.calibration for outcome in outcomes]
    stored = [calibration for calibration in calibrations if calibration is not None]
    return CheckpointResult(
        row_id=row.row_id,
        seed=checkpoint.seed,
        # One checkpoint, also in a row of several seeds: its own interval over images, not the row's over seeds.
        accuracy=of_interval(checkpoint.accuracy, accuracy_interval(checkpoint)),
        train_accuracy=_mean([outcome.metrics.train_metrics.get("top1_accuracy") for outcome in outcomes]),
        val_accuracy=checkpoint.mean("val", "top1_accuracy"),
        gap=_gap(checkpoint),
        top5=_metric(checkpoint, "top5_accuracy"),
        macro_f1=of_score(Score(value=f1, interval=intervals.macro_f1)),
        balanced=of_score(Score(value=balanced, interval=intervals.balanced_accuracy)),
        log_loss=_metric(checkpoint, "log_loss"),
        temperatures=tuple(None if entry.uncalibrated_reason else entry.temperature for entry in stored),
        log_loss_at_t=_mean([None if entry is None else entry.test_log_loss for entry in calibrations]),
        ece=_metric(checkpoint, "ece"),
        expected_ece=comparison.expected_eces.get(key),
        # An ensemble has no training of its own.
        epochs=() if is_ensemble else tuple((entry.training.best_epoch, entry.training.epochs) for entry in outcomes),
        img_per_s=() if is_ensemble else tuple(outcome.training.train_img_per_s for outcome in outcomes),
        # Of the largest fold, which a device must have room for.
        peak_gpu_memory_bytes=max((entry.training.peak_gpu_memory_bytes or 0 for entry in outcomes), default=0) or None,
        size_bytes=outcomes[0].artifact.size_bytes,
        image_size=outcomes[0].model.image_size,
        train_id=checkpoint.records[0].train_id,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean over folds; None if any of them has no value."""
    present = [value for value in values if value is not None]
    return fmean(present) if len(present) == len(values) else None


def _metric(checkpoint: Checkpoint, name: str) -> float | None:
    """Return a stored metric; pooled over folds only if it is a mean over images, which ECE is not."""
    if name not in checkpoint.outcomes[0].metrics.test_metrics or (name == "ece" and len(checkpoint.outcomes) > 1):
        return None
    return checkpoint.mean("test", name)


def _gap(checkpoint: Checkpoint) -> Estimate | None:
    """Return val minus test with Newcombe's interval: val is optimistic, as it selected the epoch."""
    # Pooled folds test every image, while each fold's val is part of another fold's test: the two are not independent.
    if len(checkpoint.outcomes) > 1:
        return None
    counts = {split: sum(checkpoint.records[0].dataset.counts[split]) for split in ("val", "test")}
    accuracies = {split: checkpoint.mean(split, "top1_accuracy") for split in counts}
    effect = 1.0
    if checkpoint.predictions is not None and (groups := meaningful(checkpoint.predictions.group)) is not None:
        # Groups of val are not stored; its design effect is taken to be that of test.
        effect = max(counts["test"] / effective_size(checkpoint.predictions.right, groups), 1.0)
    right = {split: round(accuracies[split] * counts[split]) for split in counts}
    sure = independent_difference(*[(right[split] / effect, counts[split] / effect) for split in ("val", "test")])
    return of_interval(accuracies["val"] - accuracies["test"], sure)
