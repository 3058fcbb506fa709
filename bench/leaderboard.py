"""Records to leaderboard.md and leaderboard.csv; nothing is typed by hand, nothing is read but records."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import failures, spreadsheet
from bench.acceptance import refused
from bench.cells import NO_VALUE, accuracy_cell, latency_cell, recall_cell, text_cell
from bench.latency_table import latency_table
from bench.majority import majority
from bench.measurements import Measurement
from bench.recipes import describe_budget, describe_sizes
from bench.records import RunRecord, read_records, write_text
from bench.tuned_rows import model_name, tuning_table
from imgcls.runtimes import RUNTIMES

_SCORE_COLUMNS: Final = (
    "Test top-1 (95 % interval)",
    "Val top-1",
    "Test top-5",
    "Macro-F1",
    "Balanced",
    "Log loss",
    "ECE",
    "Params, M",
    "GMACs",
    "ONNX, MB",
    "px",
    "Best epoch",
    "Training, s",
    "Training, images/s",
)

_LEGEND: Final = """## How to read it

Accuracies, F1, balanced accuracy and ECE are per cent; log loss is in nats. Intervals are 95 % Wilson intervals
over the test images of one trained model: they do not cover what another seed would give. Val selected the epoch,
test was scored once. "always ..." answers the class with the most training images. ECE has 15 equal-width bins, and
a perfectly calibrated model does not show 0 on a few hundred images.
`init: random` means that the model started from a seed and not from pre-trained weights.
GMACs are 1e9 fused multiply-adds an image as fvcore counts them (FLOPs = 2 x MACs), at the run's own input size,
without Inception's auxiliary head. Training seconds leave evaluation out.
Latency is the host's clock around input on the host to logits on the host, one picture at a time, after a warm-up,
alone on the machine among runs of this harness, n queries; one thread unless a cell says otherwise. "q" marks one short
round of run-all; without a mark, five rounds (`python -m bench measure`) that were judged VALID; "~" marks NOISY ones,
whose reason stands under the latency table; INVALID ones are not figures. Intervals of latencies are over rounds.
"p90 at most" is LoadGen's bound with confidence 0.99. Cold start and memory are of one fresh process.
A reduced precision is refused where the upper bound of its paired difference of accuracy lies below -1 point.
"""

TableKey = tuple[str, str, str, str, str, str, str]


def table_key(record: RunRecord) -> TableKey:
    """Give what must be equal for two runs to stand in one table."""
    config = record.base
    return (
        record.dataset.name,
        record.dataset.digest,
        record.dataset.split_digest,
        config.recipe,
        describe_budget(config),
        describe_sizes(config),
        record.environment.machine,
    )


def write(results: Path, *, warn: Callable[[str], None]) -> list[list[RunRecord]]:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` from all records of a results folder; give the tables."""
    tables = group(read_records(results, warn=warn))
    for name, text in (("leaderboard.md", markdown(tables)), ("leaderboard.csv", spreadsheet.csv(tables))):
        write_text(text, results / name)
    return tables


def group(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Sort records into tables, and each table by test accuracy, failed runs last."""
    tables: defaultdict[TableKey, list[RunRecord]] = defaultdict(list)
    for record in records:
        tables[table_key(record)].append(record)
    return [sorted(tables[key], key=_order) for key in sorted(tables)]


def _order(record: RunRecord) -> tuple[float, str, int, str]:
    accuracy = record.outcome.metrics.test_metrics["top1_accuracy"] if record.outcome else -1.0
    return -accuracy, record.config.model, record.config.seed, record.run_id


_ORDER_IS_NO_RANKING: Final = """Rows are sorted by test accuracy. That order is no ranking: where two intervals
overlap, this test split may not tell the models apart.
"""


def markdown(tables: Sequence[list[RunRecord]]) -> str:
    """Give the whole page."""
    count = sum(len(table) for table in tables)
    parts = [
        "# Leaderboard\n",
        f"Made by `python -m bench leaderboard` from {count} record(s); nothing here is typed by hand.\n"
        + _ORDER_IS_NO_RANKING,
    ]
    parts += [_section(table) for table in tables]
    return "\n".join([*parts, _LEGEND])


def _section(table: list[RunRecord]) -> str:
    first = table[0]
    heading = f"## {text_cell(first.dataset.name)}, recipe {first.config.recipe}, {first.environment.machine}\n"
    rows = [_row(record) for record in table]
    rows.append(_majority_row(first))
    columns = [name for name in rows[0] if name != "Failure"]
    lines = [heading, *_facts(table), "", *_table(columns, rows), ""]
    lines += [f"- Failed: {row['Model']} (seed {row['Seed']}): {row['Failure']}" for row in rows if row["Failure"]]
    if latency := latency_table(table):
        lines += ["", *latency]
    if tuned := tuning_table(table):
        lines += ["", *tuned]
    lines += ["", *_class_table(table)]
    return "\n".join(lines) + "\n"


def _facts(table: list[RunRecord]) -> list[str]:
    first, data = table[0], table[0].dataset
    sizes = ", ".join(f"{name} {sum(counts):,}" for name, counts in data.counts.items())
    removed = ", ".join(f"{number} {text_cell(reason)}" for reason, number in data.removed.items()) or "none"
    environment = first.environment
    gpu = environment.gpu_name or "none, so CUDA is not measured"
    memory = f"{environment.ram_bytes / 2**30:.0f} GiB"
    digests = f"data digest {data.digest}, split digest {data.split_digest}"
    left_out = f"files left out: {removed}; {data.undersampled} undersampled"
    lines = [
        f"- Data: {len(data.class_names)} classes; images: {sizes} (split: {text_cell(data.split_source)}; {digests})",
        f"- Cleaning: {left_out}; {data.duplicate_groups} group(s) of duplicates, each kept in one split",
        f"- Budget: {describe_budget(first.base)}",
        f"- Image size: {describe_sizes(first.base)}",
        f"- Machine: {environment.cpu_model}, {environment.cpu_count} cores, {memory}; GPU: {gpu}",
        f"- Software: {_software(table)}",
    ]
    return lines + [f"- Note: {text_cell(note)}" for note in _notes(table)]


def _notes(table: list[RunRecord]) -> list[str]:
    """Say what a reader must know before comparing rows."""
    data = table[0].dataset
    notes = list(data.missing)
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


def _row(record: RunRecord) -> dict[str, str]:
    row = {"Model": text_cell(model_name(record)), "Init": record.init, "Seed": str(record.config.seed)}
    outcome = record.outcome
    if outcome is None:
        names = (*_SCORE_COLUMNS, *_runtime_columns(record))
        failure = text_cell(failures.last_line(record.error or ""))
        return row | dict.fromkeys(names, NO_VALUE) | {"Test top-1 (95 % interval)": "failed", "Failure": failure}
    test, val = outcome.metrics.test_metrics, outcome.metrics.val_metrics
    number = sum(record.dataset.counts["test"])
    values = (
        accuracy_cell(test["top1_accuracy"], number),
        f"{100 * val['top1_accuracy']:.1f}",
        f"{100 * test['top5_accuracy']:.1f}" if "top5_accuracy" in test else NO_VALUE,
        f"{100 * test['macro_f1']:.1f}",
        f"{100 * test['balanced_accuracy']:.1f}",
        f"{test['log_loss']:.3f}",
        f"{100 * test['ece']:.1f}",
        f"{outcome.model.num_params / 1e6:.2f}",
        f"{outcome.model.gmacs:.3f}",
        f"{outcome.artifact.size_bytes / 1e6:.1f}",
        str(outcome.model.image_size),
        f"{outcome.training.best_epoch} of {outcome.training.epochs}",
        f"{outcome.training.train_time_s:.0f}",
        f"{outcome.training.train_img_per_s:.0f}",
    )
    scores = dict(zip(_SCORE_COLUMNS, values, strict=True))
    return row | scores | _runtime_columns(record) | {"Failure": ""}


def _runtime_columns(record: RunRecord | None) -> dict[str, str]:
    """Give a cell for every known runtime, one picture at a time: failed, refused and unmeasured ones say so."""
    found: dict[str, list[str]] = {runtime: [] for runtime in RUNTIMES}
    for row in record.measurements if record else ():
        if (row.kind, row.batch_size) == ("host", 1) and row.runtime in found:
            assert record is not None
            found[row.runtime].append("refused" if refused(record, row.runtime) else _threads(row) + latency_cell(row))
    return {
        f"{runtime} p50 / p90": "<br>".join(map(text_cell, cells)) or "not measured" for runtime, cells in found.items()
    }


def _threads(row: Measurement) -> str:
    return "" if row.num_threads in {None, 1} else f"{row.num_threads} threads: "


def _majority_row(record: RunRecord) -> dict[str, str]:
    always = majority(record.dataset)
    row = dict.fromkeys(("Model", "Init", "Seed", *_SCORE_COLUMNS, *_runtime_columns(None)), NO_VALUE)
    return row | {
        "Model": f"always {text_cell(always.class_name)}",
        "Test top-1 (95 % interval)": accuracy_cell(always.top1_accuracy, sum(record.dataset.counts["test"])),
        "Macro-F1": f"{100 * always.macro_f1:.1f}",
        "Balanced": f"{100 * always.balanced_accuracy:.1f}",
        "Failure": "",
    }


def _class_table(table: list[RunRecord]) -> list[str]:
    done = [(record, record.outcome.metrics.test_per_class) for record in table if record.outcome is not None]
    if not done:
        return []
    names = [f"{text_cell(model_name(record))} (seed {record.config.seed}, {record.init})" for record, _ in done]
    rows = []
    for label, class_name in enumerate(table[0].dataset.class_names):
        support = table[0].dataset.counts["test"][label]
        cells = [recall_cell(scores[label].recall, support) for _, scores in done]
        rows.append(f"| {text_cell(class_name)} | {support} | {' | '.join(cells)} |")
    header = f"| Recall by class, % (95 % interval) | Test images | {' | '.join(names)} |"
    return [header, "|---|--:|" + "--:|" * len(names), *rows]


def _table(columns: list[str], rows: list[dict[str, str]]) -> list[str]:
    """Lay out a markdown table; a runtime's column that nothing was asked of is left out."""
    shown = [name for name in columns if {row[name] for row in rows} - {"not measured", NO_VALUE}]
    lines = [f"| {' | '.join(shown)} |", "|" + "---|" * 2 + "--:|" * (len(shown) - 2)]
    return lines + [f"| {' | '.join(row[name] for name in shown)} |" for row in rows]
