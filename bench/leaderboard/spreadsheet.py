"""leaderboard.csv: one line per run, unrounded."""

import csv
import io
from collections.abc import Mapping, Sequence

from bench.comparison.acceptance import admitted
from bench.comparison.analysis import Comparison
from bench.comparison.sessions import relative_half_width
from bench.comparison.tables import Row
from bench.recipes import epochs_text, sizes_text
from bench.records.schema import RunRecord
from bench.runs import failures
from bench.stats.intervals import percentile
from imgcls.evaluation.baseline import always
from imgcls.inference.runtimes import ONNX


def text(comparisons: Sequence[Comparison]) -> str:
    """Return the CSV of some tables, for spreadsheets and scripts."""
    return table(flat_rows(comparisons))


def flat_rows(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """Return a line for each run of some tables, by column: the rows of the CSV and of the data in the page."""
    return [
        _flat(record) | _latencies(record, row) | _of_row(row, comparison)
        for comparison in comparisons
        for row in comparison.table.rows
        for record in row.records
    ]


def _of_row(row: Row, comparison: Comparison) -> dict[str, object]:
    rank = comparison.rank_of(row)
    best = {compared.row_id: share for compared, share in zip(comparison.compared, comparison.best, strict=True)}
    return {
        "table": comparison.table.key.id,
        "row": row.row_id,
        "setting": "; ".join(row.setting),
        "rank_best": rank.best if rank else None,
        "rank_worst": rank.worst if rank else None,
        "probability_best": best.get(row.row_id),
    }


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV, the same text that pandas writes; importing pandas takes most of a second.

    A column of numbers with a fraction or a gap is written as floats, so that all its values have one type.
    """
    columns = {
        name: _column([row.get(name) for row in rows]) for name in dict.fromkeys(key for row in rows for key in row)
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return out.getvalue()


def _column(values: list[object]) -> list[object]:
    # As pandas does: an integer column with a gap has no integer type.
    present = [value for value in values if value is not None]
    if all(isinstance(value, int) for value in present) and len(present) == len(values):
        return values
    if any(not isinstance(value, int | float) for value in present):
        return values
    return [float(value) if isinstance(value, int | float) else value for value in values]


def _flat(record: RunRecord) -> dict[str, object]:
    flat: dict[str, object] = {
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
    if record.outcome is not None:
        outcome = record.outcome
        flat |= {f"test_{name}": value for name, value in outcome.metrics.test_metrics.items()}
        flat |= {f"train_{name}": value for name, value in outcome.metrics.train_metrics.items()}
        flat |= {f"val_{name}": value for name, value in outcome.metrics.val_metrics.items()}
        flat |= {"num_params": outcome.model.num_params, "gmacs": outcome.model.gmacs}
        # Of a lower bound only, as the page marks it.
        if lacking := outcome.model.uncounted_products:
            flat |= {"gmacs_lack": "; ".join(lacking)}
        flat |= {"onnx_size_bytes": outcome.artifact.size_bytes, "image_size": outcome.model.image_size}
        flat |= {"weights": outcome.model.weights_tag, "best_epoch": outcome.training.best_epoch}
        flat |= {"epochs": outcome.training.epochs, "train_time_s": outcome.training.train_time_s}
    if record.tuning is not None:
        flat |= {"tuning_trials": record.tuning.trials, "tuning_tmacs": record.tuning.tmacs}
    return flat


def _latencies(record: RunRecord, row: Row) -> dict[str, object]:
    """Return the figures of a run's network: of the table's measuring machine, and of others, after their names."""
    network = next((network for network in row.networks if network.id == record.network), None)
    if network is None:
        return {"latency_machine": None}
    flat: dict[str, object] = {"latency_machine": row.measured_on if row.measured_on in network.tried else None}
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
