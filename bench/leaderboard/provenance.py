"""How the rows of a table were made: the conditions of all runs, and the studies of the tuned ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.comparison.analysis import Comparison, count_scorings
from bench.comparison.scores import accuracy_interval
from bench.comparison.tables import Checkpoint, Table
from bench.config import OF_THE_TABLE, RunConfig
from bench.leaderboard.cells import (
    LATENCY_COLUMNS,
    NO_VALUE,
    accuracy_cell,
    code,
    hyperparameters_text,
    interval_cell,
    table,
)
from bench.leaderboard.summary import listed
from bench.recipes import epochs_text, sizes_text, training_text
from bench.records.schema import UNGROUPED, DatasetInfo, RunRecord

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


def facts(compared: Table) -> list[str]:
    """Return the conditions under which the runs of a table were made, as a Markdown list."""
    records = compared.records
    first, data = records[0], records[0].dataset
    sizes = ", ".join(f"{name} {sum(counts):,}" for name, counts in data.counts.items())
    folds = compared.folds
    split = data.split_source
    if folds is not None:
        split = f"{folds}{', every image tested once' if folds.are_all else ''}; sizes of the first"
    removed = ", ".join(f"{number} {reason}" for reason, number in data.removed.items()) or "none"
    environment = first.environment
    gpu = environment.gpu_name or "none, so CUDA is not measured"
    memory = f"{environment.ram_bytes / 2**30:.0f} GiB"
    digests = f"data digest {data.digest}, split digest {data.folds_digest or data.split_digest}"
    skipped = f"files skipped: {code(removed)}; training images dropped by undersampling: {data.undersampled}"
    elsewhere = "" if compared.measured_on == compared.key.machine else f", measured on {compared.measured_on}"
    seconds = ", ".join(code(name) for name in LATENCY_COLUMNS.values())
    lines = [
        f"- Data: {len(data.class_names)} classes; images: {sizes} (split: {split}; {digests})",
        f"- Cleaning: {skipped}; {_duplicates(data)}",
        *(
            []
            if data.grouped_by == UNGROUPED
            else [f"- Groups of images that are not independent: by {code(data.grouped_by)}"]
        ),
        f"- Recipe: {_recipes(records)}; the Setting column lists deviations from it",
        f"- Budget: {epochs_text(compared.key.budget)}",
        f"- Image size: {sizes_text(compared.key.budget)}",
        f"- Latency columns: p50 of one image at a time on {seconds}{elsewhere}",
        f"- Machine: {environment.cpu_model}, {environment.cpu_count} cores, {memory}; GPU: {gpu}",
        f"- Software: {_software(records)}",
        f"- Test split: {scorings(compared)}",
    ]
    return lines + [f"- Note: {note}" for note in [*_disturbed(compared), *_notes(records)]]


def _duplicates(data: DatasetInfo) -> str:
    """Return what is known of duplicates: our own split keeps each group in one split, a given one may not."""
    if not data.has_given_split:
        return f"groups of duplicates, each kept in one split: {data.duplicate_groups}"
    leaks = "not counted" if data.test_leaks is None else f"{data.test_leaks:,}"
    dropped = f"; removed from train and val: {data.leaks_dropped:,} images" if data.leaks_dropped else ""
    groups = f"groups of duplicates: {data.duplicate_groups}; across the given splits: {data.duplicates_across_splits}"
    return f"{groups}; test images with a duplicate in train or val: {leaks}{dropped}"


def _recipes(records: list[RunRecord]) -> str:
    """Return the recipes, and how the runs without overrides trained: the recipe itself may have changed since."""
    # A row with overrides differs from the recipe as its Setting cell states, and must not represent it here.
    allowed = OF_THE_TABLE | {"precision"}
    trained = [record for record in records if record.ensemble is None]
    plain = {training_text(record.base): None for record in trained if set(record.base.overrides) <= allowed}
    names = sorted({record.base.recipe for record in records})
    return "; ".join([*map(code, names), *plain])


def _notes(records: list[RunRecord]) -> list[str]:
    """Return what may limit the comparison of rows, and where their weights come from."""
    notes = [code(note) for note in dict.fromkeys(note for record in records for note in record.dataset.missing)]
    notes += [
        f"{code(record.config.model)}, seed {record.config.seed}, was trained on {record.outcome.environment.machine}"
        for record in records
        if record.outcome is not None and record.outcome.environment.machine != record.environment.machine
    ]
    # By name: seeds of a model share their notes and weights.
    models = {record.outcome.model.name: record.outcome.model for record in records if record.outcome is not None}
    for model in models.values():
        notes += [f"{code(model.name)}: {note}" for note in model.notes]
        if model.weights_sha256:
            weights = f"{code(model.weights_tag)}, sha256 {model.weights_sha256[:16]}"
            if model.weights_revision:
                weights += f", revision {model.weights_revision[:16]}"
            notes.append(f"{code(model.name)} starts from weights {weights}")
    return notes


def _disturbed(compared: Table) -> list[str]:
    """Return a note on the trainings beside which other processes used more of the CPU than is negligible, if any."""
    # By id: the rows of a default and a tuned setting that are equal share their training.
    trained = {
        record.train_id: (f"{code(row.name)} (seed {record.config.seed})", record.outcome.training)
        for row in compared.rows
        for record in row.records
        if record.outcome and record.ensemble is None
    }
    beside = [(name, training.others_share or 0.0) for name, training in trained.values() if training.disturbed]
    if not beside:
        return []
    most = 100 * max(share for _, share in beside)
    note = (
        f"other processes used up to {most:.0f} % of the CPU during {len(beside)} of "
        f"{len(trained)} trainings, whose times and images/s are too slow: {listed([name for name, _ in beside])}"
    )
    return [note]


def _software(records: list[RunRecord]) -> str:
    # Runs of one table may be from several days: each combination of versions is listed once.
    seen = {
        f"Python {record.environment.python_version}, torch {record.environment.packages.get('torch')}, "
        f"timm {record.environment.packages.get('timm')}, onnxruntime {_onnxruntime(record)}, "
        f"code {(record.environment.git_commit or 'unknown')[:8]}{'+' if record.environment.git_dirty else ''}"
        for record in records
    }
    return "; ".join(sorted(seen))


def _onnxruntime(record: RunRecord) -> str | None:
    packages = record.environment.packages
    return packages.get("onnxruntime-gpu") or packages.get("onnxruntime")


def scorings(compared: Table) -> str:
    """Return how often test was scored: the more often, the more optimistic the best row is."""
    trainings, times = count_scorings(compared)
    again = f", {times - trainings} of them repetitions by `--force`" if times > trainings else ""
    return f"scored {_times(times)} for {_counted(trainings, 'training')}{again}; never read by sweeps"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
