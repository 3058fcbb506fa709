"""Tuned rows beside the default ones: the chosen setting, its scores, and the cost of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.comparison.analysis import Comparison, accuracy_interval
from bench.comparison.tables import Checkpoint
from bench.config import RunConfig
from bench.leaderboard.cells import NO_VALUE, accuracy_cell, code, hyperparameters_text, interval_cell, table
from bench.records.schema import RunRecord

COLUMNS: Final = (
    "Tuned",
    "Seed",
    "Chosen setting",
    "Test top-1, default",
    "Test top-1, tuned",
    "Val in the study, default",
    "Val in the study, tuned",
    "Trials (pruned, failed)",
    "TMACs",
    "Minutes of trials",
    "Study",
)

_WORDS: Final = """Each study selects by val, so its val scores are optimistic; test was scored once per run. The table
of pairs shows whether a tuned row differs significantly from the default. A tuned row costs its study in addition to
one training; TMACs are 1e12 multiply-adds of training, 3 x forward x images."""


def tuning_table(comparison: Comparison, *, sweeps: str) -> list[str]:
    """Return a Markdown table with a line per tuned run; empty if there is none."""
    records = comparison.table.records
    tuned = [record for record in records if record.tuning is not None]
    if not tuned:
        return []
    scored = {
        record.run_id: checkpoint
        for row in comparison.table.rows
        for checkpoint in row.checkpoints
        for record in checkpoint.records
    }
    rows = [_row(record, _default_of(record, records), scored, sweeps) for record in tuned]
    return [*table(COLUMNS, rows), "", _WORDS]


def _default_of(record: RunRecord, records: Sequence[RunRecord]) -> RunRecord | None:
    """Return the run of the default setting with the same initialisation and seed, if there is one."""
    same = (_default_setting(record), record.init)
    return next((other for other in records if other.tuning is None and (other.config, other.init) == same), None)


def _default_setting(record: RunRecord) -> RunConfig:
    """Return the default setting with the seed, device, threads and runtimes of this run."""
    base, own = record.base, record.config
    # A study has one seed, while its setting may be run with several, each compared with the default of its own seed.
    train = replace(base.train, device=own.train.device, train_threads=own.train.train_threads)
    return replace(base, seed=own.seed, train=train, runtime=own.runtime)


def _row(record: RunRecord, default: RunRecord | None, scored: Mapping[str, Checkpoint], sweeps: str) -> list[str]:
    tuning = record.tuning
    assert tuning is not None
    # If the first trial, the default setting, was the best, listing its values would suggest a changed setting.
    chosen = (
        "the default" if record.config == _default_setting(record) else hyperparameters_text(tuning.hyperparameters)
    )
    val = tuning.default_val_top1_accuracy
    images = sum(record.dataset.counts["val"])
    return [
        code(record.config.model),
        str(record.config.seed),
        chosen,
        _test(default, scored),
        _test(record, scored),
        NO_VALUE if val is None else accuracy_cell(val, images),
        accuracy_cell(tuning.val_top1_accuracy, images),
        f"{tuning.trials} ({tuning.pruned}, {tuning.failed})",
        f"{tuning.tmacs:.2f}",
        f"{tuning.trial_time_s / 60:.1f}",
        f"[{code(tuning.study)}]({sweeps}/{tuning.study}.md)",
    ]


def _test(record: RunRecord | None, scored: Mapping[str, Checkpoint]) -> str:
    checkpoint = scored.get(record.run_id) if record is not None else None
    if checkpoint is None:
        return NO_VALUE
    return f"{100 * checkpoint.accuracy:.1f} ({interval_cell(accuracy_interval(checkpoint))})"
