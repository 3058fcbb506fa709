"""The tables under a leaderboard's main one: pairs, single checkpoints, classes."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

from bench.comparison.analysis import Findings, count_scorings, recalls
from bench.comparison.pareto import Front
from bench.comparison.tables import Board, Checkpoint, Entry
from bench.leaderboard.cells import NO_VALUE, figure, interval_cell, score_cell, text_cell
from bench.leaderboard.summary import points
from bench.recipes import epochs_text, sizes_text
from bench.records.schema import RunRecord
from bench.stats.intervals import independent_difference, wilson_interval
from bench.stats.pairs import ALPHA

PAIRS_SHOWN: Final = 45
"""Pairs of ten models; of more, those of the best ones."""

LEAST_P: Final = 0.0001


def pair_table(found: Findings) -> list[str]:
    """Give every pair: difference, p, and what decides."""
    entries = found.compared
    pairs = [(i, j) for i in range(len(entries)) for j in range(i + 1, len(entries))]
    minority = found.minority
    header = ["Pair", "Difference (95 %, unadjusted)", "p", "p (Holm)", "Told apart"]
    if minority:
        header += [f"On {minority[1]} images of minority classes", "p (Holm)"]
    lines = [f"| {' | '.join(header)} |", "|---|" + "--:|" * (len(header) - 1)]
    for i, j in pairs[:PAIRS_SHOWN]:
        paired, adjusted = found.pair(entries[j], entries[i]), float(found.comparison.holm[i, j])
        cells = [
            f"{text_cell(entries[i].name)} over {text_cell(entries[j].name)}",
            points(paired.difference, paired.interval.low, paired.interval.high),
            p_cell(paired.p_value),
            p_cell(adjusted),
            "yes" if adjusted <= ALPHA else "no",
        ]
        if minority:
            cells += [f"{-100 * minority[0].differences[i, j]:+.1f} points", p_cell(float(minority[0].holm[i, j]))]
        lines.append(f"| {' | '.join(cells)} |")
    if len(pairs) > PAIRS_SHOWN:
        lines += ["", f"The first {PAIRS_SHOWN} of {len(pairs)} pairs; `python -m bench compare A B` shows any other."]
    return lines if pairs else []


def p_cell(p_value: float) -> str:
    """Write a p value; none under 0.0001 is told from 0."""
    return f"{p_value:.4f}" if p_value >= LEAST_P else f"< {LEAST_P}"


CHECKPOINT_COLUMNS: Final = (
    "Model",
    "Seed",
    "Test top-1 (95 %)",
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
)


def checkpoint_table(found: Findings) -> list[str]:
    """Give a line a checkpoint: what a single training scored."""
    rows = [_checkpoint(entry, checkpoint, found) for entry in found.ordered for checkpoint in entry.checkpoints]
    if not rows:
        return []
    shown = [place for place in range(len(CHECKPOINT_COLUMNS)) if {row[place] for row in rows} != {NO_VALUE}]
    lines = [f"| {' | '.join(CHECKPOINT_COLUMNS[place] for place in shown)} |", "|---|" + "--:|" * (len(shown) - 1)]
    return lines + [f"| {' | '.join(row[place] for place in shown)} |" for row in rows]


def _checkpoint(entry: Entry, checkpoint: Checkpoint, found: Findings) -> list[str]:
    outcomes, total = checkpoint.outcomes, int(checkpoint.confusion.sum())
    f1, balanced = checkpoint.macro_scores
    intervals, expected = found.macro(checkpoint), found.expected_ece(checkpoint)
    calibrations = [outcome.metrics.calibration for outcome in outcomes]
    known = [calibration for calibration in calibrations if calibration is not None]
    wilson = wilson_interval(round(checkpoint.accuracy * total), total)
    at_t = f"{fmean(one.test_log_loss for one in known):.3f}" if len(known) == len(calibrations) else NO_VALUE
    return [
        text_cell(entry.name),
        str(checkpoint.seed),
        f"{100 * checkpoint.accuracy:.1f} ({interval_cell(wilson)})",
        f"{100 * checkpoint.mean('val', 'top1_accuracy'):.1f}",
        _gap(checkpoint),
        _metric(checkpoint, "top5_accuracy", percent=True),
        f"{100 * f1:.1f} ({interval_cell(intervals.macro_f1)})",
        f"{100 * balanced:.1f} ({interval_cell(intervals.balanced_accuracy)})",
        _metric(checkpoint, "log_loss"),
        ", ".join(f"{one.temperature:.2f}" for one in known) or NO_VALUE,
        at_t,
        _metric(checkpoint, "ece", percent=True),
        f"{100 * expected[0]:.1f} ({100 * expected[1]:.1f})" if expected else NO_VALUE,
        ", ".join(f"{outcome.training.best_epoch} of {outcome.training.epochs}" for outcome in outcomes),
        ", ".join(f"{outcome.training.train_img_per_s:.0f}" for outcome in outcomes),
        f"{outcomes[0].artifact.size_bytes / 1e6:.1f}",
        str(outcomes[0].model.image_size),
    ]


def _metric(checkpoint: Checkpoint, name: str, *, percent: bool = False) -> str:
    """Give a stored metric; of folds none but means of images are given, and ECE is none."""
    if name not in checkpoint.outcomes[0].metrics.test_metrics or (name == "ece" and len(checkpoint.outcomes) > 1):
        return NO_VALUE
    value = checkpoint.mean("test", name)
    return f"{100 * value:.1f}" if percent else f"{value:.3f}"


def _gap(checkpoint: Checkpoint) -> str:
    """Give val minus test with Newcombe's interval: a gap beyond chance is what selecting by val costs."""
    if len(checkpoint.outcomes) > 1:
        return NO_VALUE
    counts = {split: sum(checkpoint.records[0].dataset.counts[split]) for split in ("val", "test")}
    found = {split: checkpoint.mean(split, "top1_accuracy") for split in counts}
    sure = independent_difference(*[(round(found[split] * counts[split]), counts[split]) for split in ("val", "test")])
    return f"{100 * (found['val'] - found['test']):+.1f} ({100 * sure.low:+.1f} to {100 * sure.high:+.1f})"


def class_table(entries: Sequence[Entry]) -> list[str]:
    """Give every class's recall with its interval, a column an entry."""
    done = [entry for entry in entries if entry.checkpoints]
    if not done:
        return []
    columns = [recalls(entry) for entry in done]
    support = done[0].checkpoints[0].confusion.sum(axis=1).tolist()
    names = " | ".join(text_cell(entry.name) for entry in done)
    lines = [f"| Recall, % (95 %) | Test images | {names} |", "|---|--:|" + "--:|" * len(done)]
    for label, class_name in enumerate(done[0].first.dataset.class_names):
        cells = [score_cell(score) if (score := column[label]) else NO_VALUE for column in columns]
        lines.append(f"| {text_cell(class_name)} | {support[label]} | {' | '.join(cells)} |")
    return lines


def pareto_table(found: Findings) -> list[str]:
    """Give each entry's cost and its probability of being on the front, as markdown."""
    every = found.fronts
    if not every:
        return []
    lines = [f"| Probability of being on the front | {' | '.join(front.title for front in every)} |"]
    lines.append("|---|" + "--:|" * len(every))
    lines += [
        f"| {text_cell(entry.name)} | {' | '.join(_cell(entry, front) for front in every)} |"
        for entry in found.compared
    ]
    words = (
        "In 2,000 bootstraps: accuracy of these checkpoints by test images, latency by rounds, training time by seeds; "
        "a cost of one round or one seed counts as exact."
    )
    return [*lines, "", words]


def _cell(entry: Entry, front: Front) -> str:
    for other, cost, chance in zip(front.entries, front.costs, front.probabilities, strict=True):
        if other is entry:
            return f"{100 * chance:.0f} % at {figure(cost.value)}"
    return NO_VALUE


def facts(board: Board) -> list[str]:
    """Give a markdown list."""
    table = board.records
    first, data = table[0], table[0].dataset
    sizes = ", ".join(f"{name} {sum(counts):,}" for name, counts in data.counts.items())
    folds = first.config.split.folds
    split = f"{folds} folds, every image tested once; sizes of the first" if folds else text_cell(data.split_source)
    removed = ", ".join(f"{number} {text_cell(reason)}" for reason, number in data.removed.items()) or "none"
    environment = first.environment
    gpu = environment.gpu_name or "none, so CUDA is not measured"
    memory = f"{environment.ram_bytes / 2**30:.0f} GiB"
    digests = f"data digest {data.digest}, split digest {data.folds_digest or data.split_digest}"
    left_out = f"files left out: {removed}; {data.undersampled} undersampled"
    lines = [
        f"- Data: {len(data.class_names)} classes; images: {sizes} (split: {split}; {digests})",
        f"- Cleaning: {left_out}; {data.duplicate_groups} group(s) of duplicates, each kept in one split",
        f"- Budget: {epochs_text(board.key.budget)}",
        f"- Image size: {sizes_text(board.key.budget)}",
        f"- Machine: {environment.cpu_model}, {environment.cpu_count} cores, {memory}; GPU: {gpu}",
        f"- Software: {_software(table)}",
    ]
    return lines + [f"- Note: {text_cell(note)}" for note in _notes(table)]


def _notes(table: list[RunRecord]) -> list[str]:
    """Say what a reader must know before comparing rows."""
    data = table[0].dataset
    notes = list(dict.fromkeys(note for record in table for note in record.dataset.missing))
    if data.duplicates_across_splits:
        notes.append(f"{data.duplicates_across_splits} group(s) of duplicates lie across the given splits")
    inits = sorted({record.init for record in table})
    if len(inits) > 1:
        notes.append(f"rows start from unlike weights ({', '.join(inits)}): they compare more than architectures")
    notes += [
        f"{record.config.model}, seed {record.config.seed}, was trained on {record.outcome.environment.machine}"
        for record in table
        if record.outcome is not None and record.outcome.environment.machine != record.environment.machine
    ]
    models = {record.outcome.model.name: record.outcome.model for record in table if record.outcome is not None}
    for model in models.values():
        notes += [f"{model.name}: {note}" for note in model.notes]
        if model.weights_sha256:
            notes.append(f"{model.name} starts from weights {model.weights_tag}, sha256 {model.weights_sha256[:16]}")
    return notes


def _software(table: list[RunRecord]) -> str:
    seen = {
        f"Python {record.environment.python_version}, torch {record.environment.packages.get('torch')}, "
        f"timm {record.environment.packages.get('timm')}, onnxruntime {_onnxruntime(record)}, "
        f"code {(record.environment.git_commit or 'unknown')[:8]}{'+' if record.environment.git_dirty else ''}"
        for record in table
    }
    return "; ".join(sorted(seen))


def _onnxruntime(record: RunRecord) -> str | None:
    packages = record.environment.packages
    return packages.get("onnxruntime-gpu") or packages.get("onnxruntime")


def scorings(board: Board) -> str:
    """Say how often test was looked at: the more often, the more the best row is flattered."""
    trainings, times = count_scorings(board)
    again = f", {times - trainings} of them again by --force" if times > trainings else ""
    return f"scored {times} time(s), {trainings} training(s){again}; sweeps never open it"
