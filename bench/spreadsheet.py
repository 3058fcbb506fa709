"""Records as CSV: one line a run, unrounded."""

from collections.abc import Sequence

from bench import failures
from bench.acceptance import refused
from bench.findings import Findings
from bench.majority import majority
from bench.recipes import epochs_text, sizes_text
from bench.records import RunRecord
from bench.sessions import relative_half_width
from bench.stats import percentile


def csv(found: Sequence[Findings]) -> str:
    """Give one line a run, unrounded, for spreadsheets and scripts."""
    import pandas as pd  # noqa: PLC0415 - most of a second to import

    frame = pd.DataFrame(
        [
            _flat(record) | {"tie_group": one.group_of(entry)}
            for one in found
            for entry in one.board.entries
            for record in entry.records
        ]
    )
    return str(frame.to_csv(index=False, lineterminator="\n"))


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
        "majority_class_accuracy": majority(record.dataset).top1_accuracy,
    }
    if record.outcome is not None:
        outcome = record.outcome
        flat |= {f"test_{name}": value for name, value in outcome.metrics.test_metrics.items()}
        flat |= {f"val_{name}": value for name, value in outcome.metrics.val_metrics.items()}
        flat |= {"num_params": outcome.model.num_params, "gmacs": outcome.model.gmacs}
        flat |= {"onnx_size_bytes": outcome.artifact.size_bytes, "image_size": outcome.model.image_size}
        flat |= {"weights": outcome.model.weights_tag, "best_epoch": outcome.training.best_epoch}
        flat |= {"epochs": outcome.training.epochs, "train_time_s": outcome.training.train_time_s}
    if record.tuning is not None:
        flat |= {"tuning_trials": record.tuning.trials, "tuning_tmacs": record.tuning.tmacs}
    for row in record.measurements:
        if row.has_figures and not refused(record, row.runtime):
            name = f"{row.runtime}_{row.num_threads}threads_{row.kind}_batch{row.batch_size}"
            flat |= {f"{name}_p50_ms": percentile(row.samples_ms, 50), f"{name}_queries": row.num_queries}
            flat |= {f"{name}_protocol": row.protocol, f"{name}_validity": row.validity}
            flat |= {f"{name}_half_width": relative_half_width(row), f"{name}_p90_upper_ms": row.p90_upper_ms}
    return flat
