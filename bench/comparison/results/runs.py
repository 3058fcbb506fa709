"""Each run of a table as a flat row, unrounded, for the CSV and the page; and its record as text."""

from collections.abc import Sequence
from dataclasses import replace

from bench.comparison.analysis import Comparison
from bench.comparison.latencies.acceptance import admitted
from bench.comparison.latencies.sessions import relative_half_width
from bench.comparison.measures import MEASURES
from bench.comparison.rows import Checkpoint, Row
from bench.recipes import epochs_text, sizes_text
from bench.records.schema import RunRecord
from bench.records.store import to_json
from bench.runs import failures
from bench.stats.intervals import percentile
from imgcls.evaluation.baseline import always
from imgcls.inference.runtimes import ONNX

FlatRun = dict[str, object]
"""The values of a run by column."""


def flat_runs(comparisons: Sequence[Comparison]) -> list[FlatRun]:
    """Return the values of each run of some tables by column."""
    return [
        _flat(record) | _of_outcome(record, row, comparison) | _latencies(record, row) | _of_row(row, comparison)
        for comparison in comparisons
        for row in comparison.table.rows
        for record in row.records
    ]


def _of_row(row: Row, comparison: Comparison) -> FlatRun:
    rank = comparison.ranks.get(row.row_id)
    return {
        "table": comparison.table.key.id,
        "row": row.row_id,
        "setting": "; ".join(row.setting),
        "rank_best": rank.best if rank else None,
        "rank_worst": rank.worst if rank else None,
        "probability_best": comparison.best.get(row.row_id),
    }


def _flat(record: RunRecord) -> FlatRun:
    return {
        "dataset": record.dataset.name,
        "data_digest": record.dataset.digest,
        "split_digest": record.dataset.split_digest,
        "recipe": record.config.recipe,
        "budget": epochs_text(record.base.budget),
        "image_size_rule": sizes_text(record.base.budget),
        "machine": record.environment.machine,
        "run_id": record.run_id,
        "artifact": f"artifacts/{record.train_id}/{ONNX}" if record.outcome else None,
        "model": record.config.model,
        "init": record.init,
        "seed": record.config.seed,
        "fold": record.config.split.fold,
        "test_scorings": record.test_scorings,
        "study": record.tuning.study if record.tuning else None,
        "lr": record.config.train.lr,
        "dropout": record.config.architecture.dropout,
        "status": record.status,
        "error": failures.last_line(record.error) if record.error else None,
        "test_images": sum(record.dataset.counts["test"]),
        "grouped_by": record.dataset.grouped_by,
        "majority_class_accuracy": always(
            record.dataset.class_names, train=record.dataset.counts["train"], test=record.dataset.counts["test"]
        ).top1_accuracy,
    }


def _of_outcome(record: RunRecord, row: Row, comparison: Comparison) -> FlatRun:
    flat: FlatRun = {}
    if record.outcome is not None:
        outcome = record.outcome
        # Of this run alone, and also of one whose seed lacks folds.
        alone = replace(row, checkpoints=(Checkpoint(seed=record.config.seed, records=(record,), predictions=None),))
        named = [measure for measure in MEASURES.values() if measure.csv]
        measures = {measure.csv: measure.of(comparison, alone) for measure in named}
        flat |= {f"test_{name}": value for name, value in outcome.metrics.test_metrics.items()}
        flat |= {f"train_{name}": value for name, value in outcome.metrics.train_metrics.items()}
        flat |= {f"val_{name}": value for name, value in outcome.metrics.val_metrics.items()}
        flat |= {name: estimate.value for name, estimate in measures.items() if estimate is not None}
        # Of a lower bound only, as the page marks it.
        if lacking := outcome.model.uncounted_products:
            flat |= {"gmacs_lack": "; ".join(lacking)}
        flat |= {"onnx_size_bytes": outcome.artifact.size_bytes, "image_size": outcome.model.image_size}
        flat |= {"weights": outcome.model.weights_tag, "best_epoch": outcome.training.best_epoch}
        flat |= {"epochs": outcome.training.epochs, "train_time_s": outcome.training.train_time_s}
    if record.tuning is not None:
        flat |= {"tuning_trials": record.tuning.trials, "tuning_tmacs": record.tuning.tmacs}
    return flat


def _latencies(record: RunRecord, row: Row) -> FlatRun:
    """Return the figures of a run's network: of the table's measuring machine, and of others, after their names."""
    network = next((network for network in row.networks if network.id == record.network), None)
    if network is None:
        return {"latency_machine": None}
    flat: FlatRun = {"latency_machine": row.measured_on if row.measured_on in network.tried else None}
    # Refused and invalid figures are withheld here too: a script would not see their mark.
    for machine in sorted(network.figures, key=lambda name: (name != row.measured_on, name)):
        for _, figure in network.figures[machine]:
            if admitted(record, figure.runtime, machine):
                prefix = "" if machine == row.measured_on else f"{machine}/"
                name = f"{prefix}{figure.runtime}_{figure.num_threads}threads_{figure.kind}_batch{figure.batch_size}"
                flat |= {f"{name}_p50_ms": percentile(figure.samples_ms, 50), f"{name}_queries": figure.num_queries}
                flat |= {f"{name}_protocol": figure.protocol, f"{name}_validity": figure.validity}
                flat |= {f"{name}_half_width": relative_half_width(figure), f"{name}_p90_upper_ms": figure.p90_upper_ms}
    return flat


def provenance(record: RunRecord, row: Row) -> tuple[str, str]:
    """Return a title and the record of a run as JSON text, without its history, measurements and metrics."""
    model = record.outcome.model if record.outcome else None
    content = {
        "run_id": record.run_id,
        "train_id": record.train_id,
        "started_at": record.started_at,
        "duration_s": record.duration_s,
        "error": record.error,
        "config": record.config,
        "environment": record.environment,
        "trained_in": record.outcome.environment if record.outcome else None,
        "dataset": record.dataset,
        "model": model,
        "onnx_sha256": record.outcome.artifact.sha256 if record.outcome else None,
    }
    commit = (record.environment.git_commit or "unknown")[:8]
    fold = "" if record.config.split.fold is None else f", fold {record.config.split.fold}"
    title = f"{row.name}, seed {record.config.seed}{fold}: {record.status}, run {record.run_id}, code {commit}"
    return title, to_json(content)
