"""The tables below the main one: rows, machines, pairs, checkpoints, classes, imbalance, diversity, fronts, costs."""

from typing import Final

from bench.comparison.costs import FrontPoint, ToAccuracy
from bench.comparison.measures import MEASURES, Estimate
from bench.comparison.results.building import MOST_DIVERSE, PAIRS_SHOWN
from bench.comparison.results.values import CheckpointResult, RowResult, TableResult
from bench.leaderboard.cells import latency_text, measured, nats, p_value, per_cent, points
from bench.render.documents import NO_VALUE, Block, Name, Number, Paragraph, Text, Words, joined, table, text
from imgcls.inference.runtimes import ONNX, RUNTIMES


def row_table(results: TableResult) -> list[Block]:
    """Return a line per row: probability of being best, seeds, measures without a place elsewhere, and latencies."""
    runtimes = results.measuring.runtimes
    own = [measure for measure in MEASURES.values() if measure.rows]
    titles = ["Model", "Probability best", "Init", "Seeds", "Seeds' top-1 %", *(measure.rows for measure in own)]
    titles += [f"{results.runtime_name(name)} p50 / p90" for name in runtimes]
    lines: list[list[Words]] = [
        [
            Name(row.name),
            NO_VALUE if row.probability_best is None else share(row.probability_best),
            row.init,
            ", ".join(map(str, row.seeds)),
            f"{100 * min(row.accuracies):.1f} to {100 * max(row.accuracies):.1f}" if len(row.seeds) > 1 else NO_VALUE,
            *(measured(measure, row.measures.get(measure.key)) for measure in own),
            *(latency_text(row.latency(runtime, results.measured_on)) for runtime in runtimes),
        ]
        for row in results.scored
    ]
    return table(titles, lines)


def share(value: float) -> Text:
    """Return a fraction in whole per cent."""
    return text(Number(100 * value, spec=".0f"), " %")


def machine_table(results: TableResult) -> list[Block]:
    """Return a line per row and measuring machine, with accuracy and latencies; empty if only one has measured."""
    machines = results.machines
    if len(machines) < 2:  # noqa: PLR2004 - the latencies of a single machine are in Rows
        return []
    runtimes = [name for name in RUNTIMES if any(name in machine.runtimes for machine in machines)]
    lines: list[list[Words]] = [
        [
            Name(row.name),
            per_cent(row.measures["top1"]),
            machine.name,
            *(latency_text(row.latency(runtime, machine.name)) for runtime in runtimes),
        ]
        for row in results.scored
        for machine in machines
    ]
    return table(
        ["Model", "Top-1 % (95 % CI)", "Measured on", *(f"{name} p50 / p90" for name in runtimes)], lines, left=3
    )


def pair_table(results: TableResult) -> list[Block]:
    """Return a line for each pair: the differences of accuracy and log loss, and their p values."""
    titles = ["First", "Second", "First - second, pp (simultaneous 95 % CI)", "p", "p (Holm)"]
    titles += ["Log loss, nats (simultaneous 95 % CI)", "Log-loss p (Holm)"]
    images = results.minority_images[0] if results.minority_images else 0
    titles += [f"On {images} images of minority classes, pp", "Minority p (Holm)"]
    lines: list[list[Words]] = [
        [
            *(Name(results.by_id[row].name) for row in (pair.first, pair.second)),
            points(pair.difference),
            *(p_value(pair.p_value), p_value(pair.holm)),
            NO_VALUE if pair.loss is None else nats(pair.loss),
            NO_VALUE if pair.loss_holm is None else p_value(pair.loss_holm),
            NO_VALUE if pair.minority is None else points(Estimate(pair.minority)),
            NO_VALUE if pair.minority_holm is None else p_value(pair.minority_holm),
        ]
        for pair in results.pairs[:PAIRS_SHOWN]
    ]
    blocks = table(titles, lines, left=2)
    if len(results.pairs) > PAIRS_SHOWN:
        total = f"The first {PAIRS_SHOWN} of {len(results.pairs)} pairs; "
        blocks.append(Paragraph(text(total, Name("python -m bench compare A B"), " shows any other.")))
    return blocks


GPU_MEMORY: Final = "GPU memory, GiB"
"""Title of the column of the peak memory of training, which is shown if a checkpoint has one."""

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
    GPU_MEMORY,
    "ONNX, MB",
    "px",
    "Artifact",
)


def checkpoint_table(results: TableResult) -> list[Block]:
    """Return a line for each checkpoint, that is, for each training."""
    lines = [_checkpoint(checkpoint, results.by_id[checkpoint.row_id]) for checkpoint in results.checkpoints]
    titles = list(CHECKPOINT_COLUMNS)
    if all(checkpoint.peak_gpu_memory_bytes is None for checkpoint in results.checkpoints):
        column = titles.index(GPU_MEMORY)
        lines = [[*line[:column], *line[column + 1 :]] for line in lines]
        titles.remove(GPU_MEMORY)
    blocks = table(titles, lines)
    if results.num_checkpoints > len(lines):
        total = f"The first {len(lines)} of {results.num_checkpoints:,} checkpoints; "
        blocks.append(Paragraph(text(total, Name("leaderboard.csv"), " has all.")))
    return blocks


def _checkpoint(checkpoint: CheckpointResult, row: RowResult) -> list[Words]:
    ece, temperatures = checkpoint.expected_ece, checkpoint.temperatures
    fitted = ["not fitted" if value is None else Number(value, spec=".2f") for value in temperatures]
    return [
        Name(row.name),
        str(checkpoint.seed),
        per_cent(checkpoint.accuracy),
        _optional(checkpoint.train_accuracy, 100),
        _optional(checkpoint.val_accuracy, 100),
        NO_VALUE if checkpoint.gap is None else points(checkpoint.gap),
        _optional(checkpoint.top5, 100),
        per_cent(checkpoint.macro_f1),
        per_cent(checkpoint.balanced),
        _optional(checkpoint.log_loss),
        joined(fitted) or NO_VALUE,
        _optional(checkpoint.log_loss_at_t),
        _optional(checkpoint.ece, 100),
        text(Number(100 * ece[0], spec=".1f"), f" ({100 * ece[1]:.1f})") if ece else NO_VALUE,
        ", ".join(f"{best} of {epochs}" for best, epochs in checkpoint.epochs) or NO_VALUE,
        joined([Number(speed, spec=".0f") for speed in checkpoint.img_per_s]) or NO_VALUE,
        NO_VALUE
        if checkpoint.peak_gpu_memory_bytes is None
        else Number(checkpoint.peak_gpu_memory_bytes / 2**30, spec=".2f"),
        Number(checkpoint.size_bytes / 1e6, spec=".1f"),
        Number(checkpoint.image_size, spec="d"),
        # Relative to the results folder, as ``predict`` and people need it; of folds, the first.
        Name(f"artifacts/{checkpoint.train_id}/{ONNX}"),
    ]


def _optional(value: float | None, scale: float = 1.0) -> Words:
    """Return a value of at most one in per cent with one decimal, or one in nats with three; a mark without a value."""
    return NO_VALUE if value is None else Number(scale * value, spec=".3f" if scale == 1 else ".1f")


def class_table(results: TableResult) -> list[Block]:
    """Return the recall of each class with its interval, a column for each row of the leaderboard."""
    rows = results.scored
    if not rows:
        return []
    # The weakest classes of the most accurate row first: of a hundred classes nobody reads all.
    first = [2.0 if recall is None else recall.value for recall in rows[0].recalls]
    lines: list[list[Words]] = [
        [
            Name(results.class_names[label]),
            Number(results.test_counts[label], spec="d"),
            *(NO_VALUE if (recall := row.recalls[label]) is None else per_cent(recall) for row in rows),
        ]
        for label in sorted(range(len(first)), key=first.__getitem__)
    ]
    return table(["Recall, % (95 % CI)", "Test images", *(Name(row.name) for row in rows)], lines, keep=2 + len(rows))


def confusion_table(results: TableResult) -> list[Block]:
    """Return the ten most frequent confusions of the most accurate row; empty without any."""
    if not results.confusions:
        return []
    row = results.scored[0]
    lines: list[list[Words]] = [
        [
            Name(confusion.true),
            Name(confusion.predicted),
            Number(confusion.images, spec="d"),
            Number(100 * confusion.share, spec=".0f"),
        ]
        for confusion in results.confusions
    ]
    over = f", summed over {len(row.seeds)} seeds" if len(row.seeds) > 1 else ""
    titles = ["True class", "Predicted class", "Images", "% of the true class"]
    return [Paragraph(text(Name(row.name), f", the most accurate row{over}:")), *table(titles, lines, left=2)]


IMBALANCE_COLUMNS: Final = (
    "Model",
    "Technique",
    "Top-1 %",
    "Macro-F1 %",
    "Worst class %",
    "Minority, pp to none (95 % CI)",
    "p (Holm)",
    "Detectable, pp",
    "Other classes, pp to none (95 % CI)",
)


def imbalance_table(results: TableResult) -> list[Block]:
    """Return accuracy, macro-F1 and worst class of the techniques against imbalance, and their effects."""
    rows = results.scored
    if len({row.imbalance for row in rows}) < 2:  # noqa: PLR2004 - rows with and without a technique
        return []
    words: Words = "No class is a minority class (fewer than half of the median class's train images)."
    if results.minority_classes:
        words = text(
            *("Minority classes: ", joined([Name(name) for name in results.minority_classes])),
            ". Intervals are not adjusted; p is of the minority classes, adjusted over all techniques (Holm). "
            "Detectable is the minimum detectable difference there, at 80 % power.",
        )
    return [*table(IMBALANCE_COLUMNS, list(map(_technique, rows)), left=2), Paragraph(text(words))]


def _technique(row: RowResult) -> list[Words]:
    top1, macro_f1, worst = (row.measures.get(key) for key in ("top1", "macro_f1", "worst"))
    scores: list[Words] = [NO_VALUE if score is None else _percent(score) for score in (top1, macro_f1)]
    scores.append(NO_VALUE if worst is None else text(_percent(worst), " (", Name(worst.subject or ""), ")"))
    effect = row.effect
    if effect is None:
        return [Name(row.model), row.imbalance, *scores, *[NO_VALUE] * 4]
    detectable = "more than 100" if effect.detectable is None else Number(100 * effect.detectable, spec=".1f")
    gaps = (points(effect.minority), p_value(effect.holm), detectable, points(effect.others))
    return [Name(row.model), row.imbalance, *scores, *gaps]


def _percent(score: Estimate) -> Number:
    return Number(100 * score.value, spec=".1f")


def diversity_table(results: TableResult) -> list[Block]:
    """Return how often pairs of rows disagree and are both wrong, if the table has an ensemble."""
    if not any(row.kind == "ensemble" for row in results.compared):
        return []
    rows = [row for row in results.compared if row.kind != "ensemble"][:MOST_DIVERSE]
    if len(rows) < 2:  # noqa: PLR2004 - a pair
        return []
    words = (
        "Share of test images, in %, on which exactly one of the two is right (disagreement) / both are wrong (double "
        "fault); mean over the seeds that both have. Members gain from disagreement, and no vote mends a double fault."
    )
    lines: list[list[Words]] = [
        [Name(row.name), *(_diversity(results, rows[min(i, j)], rows[max(i, j)]) for j in range(len(rows)))]
        for i, row in enumerate(rows)
    ]
    titles: list[Words] = ["Disagreement / double fault", *(Name(row.name) for row in rows)]
    return [*table(titles, lines), Paragraph(text(words))]


def _diversity(results: TableResult, first: RowResult, second: RowResult) -> Words:
    if first is second:
        return NO_VALUE
    pair = results.pair(first, second)
    if pair.disagreement is None or pair.double_fault is None:
        return "no common seed"
    return text(Number(100 * pair.disagreement, spec=".1f"), f" / {100 * pair.double_fault:.1f}")


def pareto_table(results: TableResult) -> list[Block]:
    """Return each row's costs and its probability of being on the Pareto front of accuracy and that cost."""
    if not results.fronts:
        return []
    lines: list[list[Words]] = []
    for row in results.compared:
        own = [front.points.get(row.id) for front in results.fronts]
        lines.append([Name(row.name), *map(_on_front, own)])
    words = (
        "Share of 2,000 bootstrap samples. Resampled are the test images for accuracy, the rounds for latency and the "
        "seeds for costs that differ between them; a cost from one round or one seed counts as exact."
    )
    titles = ["Probability of being on the front", *(front.title for front in results.fronts)]
    return [*table(titles, lines), Paragraph(text(words))]


def _on_front(point: FrontPoint | None) -> Words:
    if point is None:
        return NO_VALUE
    bound = "≥ " if point.cost.kind == "at least" else ""
    return text(share(point.probability), f" at {bound}", Number(point.cost.value))


def cost_table(results: TableResult) -> list[Block]:
    """Return the cost of training each row until val reaches 80, 85 and 90 %, in minutes and compute."""
    rows = [row for row in results.scored if row.to_accuracy]
    if not rows:
        return []
    lines = [[Name(row.name), *(_to_accuracy(cost, row) for cost in row.to_accuracy)] for row in rows]
    words = (
        "Minutes of training without evaluation, and 1e12 multiply-accumulate operations (three forward passes per "
        "image), until the end of the first epoch with that accuracy on val; means over seeds and folds."
    )
    titles = ["To a val top-1 of", *(f"{100 * cost.target:.0f} %" for cost in rows[0].to_accuracy)]
    return [*table(titles, lines), Paragraph(text(words))]


def _to_accuracy(cost: ToAccuracy, row: RowResult) -> Words:
    if cost.minutes is None or cost.tmacs is None:
        return "not reached"
    some = "" if cost.reached == cost.trainings else f" ({cost.reached} of {cost.trainings} reached it)"
    bound = "≥ " if row.uncounted else ""
    return text(Number(cost.minutes, spec=".1f"), f" min, {bound}{cost.tmacs:.2f} TMACs{some}")
