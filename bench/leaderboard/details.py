"""The tables below the main one: pairs, checkpoints, classes and Pareto fronts."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from bench.comparison.analysis import Comparison
from bench.comparison.pareto import TARGETS, Front, cost_to_accuracy
from bench.comparison.scores import accuracy_interval, most_confused, recalls
from bench.comparison.tables import Checkpoint, Row
from bench.leaderboard.cells import NO_VALUE, at_least, code, figure, interval_cell, score_cell, table
from bench.stats.groups import effective_size, meaningful
from bench.stats.intervals import independent_difference
from imgcls.inference.runtimes import ONNX

PAIRS_SHOWN: Final = 45
"""All pairs of ten rows; of more rows, the pairs of the most accurate ones."""

LEAST_P: Final = 0.0001


def pair_table(comparison: Comparison) -> list[str]:
    """Return a line for each pair: the differences of accuracy and log loss, and their p values."""
    rows = comparison.compared
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    minority = comparison.minority
    columns = ["First", "Second", "First - second, pp (simultaneous 95 % CI)", "p", "p (Holm)"]
    losses = comparison.losses
    if losses:
        columns += ["Log loss, nats (simultaneous 95 % CI)", "Log-loss p (Holm)"]
    if minority:
        columns += [f"On {minority[1]} images of minority classes, pp", "Minority p (Holm)"]
    lines = []
    # Rows are sorted by accuracy: the first pairs are those of the best rows, which decide what to ship.
    for i, j in pairs[:PAIRS_SHOWN]:
        paired, adjusted = comparison.pair(rows[j], rows[i]), float(comparison.pairwise.holm[i, j])
        low, high = 100 * paired.interval.low, 100 * paired.interval.high
        cells = [
            code(rows[i].name),
            code(rows[j].name),
            f"{100 * paired.difference:+.1f} ({low:+.1f} to {high:+.1f})",
            p_cell(paired.p_value),
            p_cell(adjusted),
        ]
        if losses:
            # Its tests have second minus first too.
            values = (-losses.differences[i, j], -losses.high[i, j], -losses.low[i, j])
            cells += ["{:+.3f} ({:+.3f} to {:+.3f})".format(*values), p_cell(float(losses.holm[i, j]))]
        if minority:
            # The tests have second minus first, the table first minus second.
            cells += [f"{-100 * minority[0].differences[i, j]:+.1f}", p_cell(float(minority[0].holm[i, j]))]
        lines.append(cells)
    markdown = table(columns, lines, left=2)
    if len(pairs) > PAIRS_SHOWN:
        markdown += [
            "",
            f"The first {PAIRS_SHOWN} of {len(pairs)} pairs; `python -m bench compare A B` shows any other.",
        ]
    return markdown


def p_cell(p_value: float) -> str:
    """Return a p value to four decimals."""
    return f"{p_value:.4f}" if p_value >= LEAST_P else f"< {LEAST_P}"


CHECKPOINT_COLUMNS: Final = (
    "Model",
    "Seed",
    "Test top-1 (95 %)",
    "Train top-1",
    "Val top-1",
    "Val - test (95 %)",
    "Top-5",
    "Macro-F1 (95 %)",
    "Balanced (95 %)",
    "Log loss",
    "T",
    "Log loss at T",
    "ECE",
    "ECE if calibrated (95th)",
    "Best epoch",
    "Training, images/s",
    "ONNX, MB",
    "px",
    "Artifact",
)


def checkpoint_table(comparison: Comparison) -> list[str]:
    """Return a line for each checkpoint, that is, for each training."""
    lines = [_checkpoint(row, checkpoint, comparison) for row, checkpoint in comparison.shown_checkpoints]
    markdown = table(CHECKPOINT_COLUMNS, lines)
    total = sum(len(row.checkpoints) for row in comparison.table.rows)
    if total > len(lines):
        markdown += ["", f"The first {len(lines)} of {total:,} checkpoints; `leaderboard.csv` has all."]
    return markdown


def _checkpoint(row: Row, checkpoint: Checkpoint, comparison: Comparison) -> list[str]:
    outcomes, ensemble = checkpoint.outcomes, row.first.ensemble
    f1, balanced = checkpoint.macro_scores
    intervals, expected = comparison.macro(checkpoint), comparison.expected_ece(checkpoint)
    calibrations = [outcome.metrics.calibration for outcome in outcomes]
    stored = [calibration for calibration in calibrations if calibration is not None]
    # One checkpoint, also in a row of several seeds: its own interval over images, not the row's over seeds.
    over_images = accuracy_interval(checkpoint)
    at_t = (
        f"{fmean(calibration.test_log_loss for calibration in stored):.3f}"
        if len(stored) == len(calibrations)
        else NO_VALUE
    )
    return [
        code(row.name),
        str(checkpoint.seed),
        f"{100 * checkpoint.accuracy:.1f} ({interval_cell(over_images)})",
        _train_accuracy(checkpoint),
        f"{100 * checkpoint.mean('val', 'top1_accuracy'):.1f}",
        _gap(checkpoint),
        _metric(checkpoint, "top5_accuracy", percent=True),
        f"{100 * f1:.1f} ({interval_cell(intervals.macro_f1)})",
        f"{100 * balanced:.1f} ({interval_cell(intervals.balanced_accuracy)})",
        _metric(checkpoint, "log_loss"),
        ", ".join(
            "not fitted" if calibration.uncalibrated_reason else f"{calibration.temperature:.2f}"
            for calibration in stored
        )
        or NO_VALUE,
        at_t,
        _metric(checkpoint, "ece", percent=True),
        f"{100 * expected[0]:.1f} ({100 * expected[1]:.1f})" if expected else NO_VALUE,
        NO_VALUE
        if ensemble
        else ", ".join(f"{outcome.training.best_epoch} of {outcome.training.epochs}" for outcome in outcomes),
        NO_VALUE if ensemble else ", ".join(f"{outcome.training.train_img_per_s:.0f}" for outcome in outcomes),
        f"{outcomes[0].artifact.size_bytes / 1e6:.1f}",
        str(outcomes[0].model.image_size),
        # Relative to the results folder, as ``predict`` and people need it; of folds, the first.
        code(f"artifacts/{checkpoint.records[0].train_id}/{ONNX}"),
    ]


def _train_accuracy(checkpoint: Checkpoint) -> str:
    values = [outcome.metrics.train_metrics.get("top1_accuracy") for outcome in checkpoint.outcomes]
    accuracies = [value for value in values if value is not None]
    return f"{100 * fmean(accuracies):.1f}" if len(accuracies) == len(values) else NO_VALUE


def _metric(checkpoint: Checkpoint, name: str, *, percent: bool = False) -> str:
    """Return a stored metric; pooled over folds only if it is a mean over images, which ECE is not."""
    if name not in checkpoint.outcomes[0].metrics.test_metrics or (name == "ece" and len(checkpoint.outcomes) > 1):
        return NO_VALUE
    value = checkpoint.mean("test", name)
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def _gap(checkpoint: Checkpoint) -> str:
    """Return val minus test with Newcombe's interval: val is optimistic, as it selected the epoch."""
    # Pooled folds test every image, while each fold's val is part of another fold's test: the two are not independent.
    if len(checkpoint.outcomes) > 1:
        return NO_VALUE
    counts = {split: sum(checkpoint.records[0].dataset.counts[split]) for split in ("val", "test")}
    accuracies = {split: checkpoint.mean(split, "top1_accuracy") for split in counts}
    effect = 1.0
    if checkpoint.predictions is not None and (groups := meaningful(checkpoint.predictions.group)) is not None:
        # Groups of val are not stored; its design effect is taken to be that of test.
        effect = max(counts["test"] / effective_size(checkpoint.predictions.right, groups), 1.0)
    right = {split: round(accuracies[split] * counts[split]) for split in counts}
    sure = independent_difference(*[(right[split] / effect, counts[split] / effect) for split in ("val", "test")])
    return f"{100 * (accuracies['val'] - accuracies['test']):+.1f} ({100 * sure.low:+.1f} to {100 * sure.high:+.1f})"


def class_table(rows: Sequence[Row]) -> list[str]:
    """Return the recall of each class with its interval, a column for each row of the leaderboard."""
    done = [row for row in rows if row.checkpoints]
    if not done:
        return []
    # All rows of a table have the same test split, so that one column of counts serves all.
    columns = [recalls(row) for row in done]
    support = done[0].checkpoints[0].confusion.sum(axis=1).tolist()
    lines = []
    # The weakest classes of the most accurate row first: of a hundred classes nobody reads all.
    names = done[0].first.dataset.class_names
    values = [score.value if score else 2.0 for score in columns[0]]
    for label in sorted(range(len(names)), key=lambda label: values[label]):
        class_name = names[label]
        cells = [score_cell(score) if (score := column[label]) else NO_VALUE for column in columns]
        lines.append([code(class_name), str(support[label]), *cells])
    return table(["Recall, % (95 % CI)", "Test images", *(code(row.name) for row in done)], lines, keep=2 + len(done))


def confusion_table(comparison: Comparison) -> list[str]:
    """Return the ten most frequent confusions of the most accurate row; empty without any."""
    row = next((row for row in comparison.ordered if row.checkpoints), None)
    confusions = most_confused(row) if row else []
    if row is None or not confusions:
        return []
    lines = [
        [code(confusion.true), code(confusion.predicted), str(confusion.images), f"{100 * confusion.share:.0f}"]
        for confusion in confusions
    ]
    over = f", summed over {len(row.checkpoints)} seeds" if len(row.checkpoints) > 1 else ""
    columns = ["True class", "Predicted class", "Images", "% of the true class"]
    return [f"{code(row.name)}, the most accurate row{over}:", "", *table(columns, lines, left=2)]


def pareto_table(comparison: Comparison) -> list[str]:
    """Return each row's costs and its probability of being on the Pareto front of accuracy and that cost."""
    fronts = comparison.fronts
    if not fronts:
        return []
    lines = [[code(row.name), *(_on_front(row, front) for front in fronts)] for row in comparison.compared]
    words = (
        "Share of 2,000 bootstrap samples. Resampled are the test images for accuracy, the rounds for latency and the "
        "seeds for training time; a cost from one round or one seed counts as exact."
    )
    return [*table(["Probability of being on the front", *(front.title for front in fronts)], lines), "", words]


def cost_table(comparison: Comparison) -> list[str]:
    """Return the cost of training each row until val reaches 80, 85 and 90 %, in minutes and compute."""
    # An ensemble has no epochs.
    rows = [row for row in comparison.ordered if row.checkpoints and row.first.ensemble is None]
    if not rows:
        return []
    lines = [[code(row.name), *(_to_accuracy(row, target) for target in TARGETS)] for row in rows]
    words = (
        "Minutes of training without evaluation, and 1e12 multiply-accumulate operations (three forward passes per "
        "image), until the end of the first epoch with that accuracy on val; means over seeds and folds."
    )
    return [*table(["To a val top-1 of", *(f"{100 * target:.0f} %" for target in TARGETS)], lines), "", words]


def _to_accuracy(row: Row, target: float) -> str:
    cost = cost_to_accuracy(row, target)
    if cost.minutes is None or cost.tmacs is None:
        return "not reached"
    some = "" if cost.reached == cost.trainings else f" ({cost.reached} of {cost.trainings} reached it)"
    return f"{cost.minutes:.1f} min, {at_least(row.outcome.model)}{cost.tmacs:.2f} TMACs{some}"


def _on_front(row: Row, front: Front) -> str:
    for other, cost, chance in zip(front.rows, front.costs, front.probabilities, strict=True):
        if other is row:
            bound = at_least(row.outcome.model) if front.title == "GMACs" else ""
            return f"{100 * chance:.0f} % at {bound}{figure(cost.value)}"
    return NO_VALUE
