"""How the rows of a table were made, as values: the conditions of all runs, and the studies of the tuned ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.comparison.agreement import ExcludedRun
from bench.comparison.measures import Estimate, of_interval
from bench.comparison.rows import Checkpoint
from bench.comparison.scores import accuracy_interval
from bench.comparison.tables import Table, TestedFolds
from bench.config import OF_THE_TABLE
from bench.recipes import training_text
from bench.records.schema import UNGROUPED, ModelInfo, RunRecord
from bench.stats.intervals import wilson_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Groups of duplicates; of a given test split, how many are across splits, and what was done about it.

    ``leaks`` are test images with a duplicate in train or val; None if they were not counted.
    """

    groups: int
    given_split: bool
    across_splits: int
    leaks: int | None
    dropped: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbed:
    """Trainings beside which other processes used more of the CPU than is negligible: (name of the row, seed)."""

    trainings: tuple[tuple[str, int], ...]
    total: int
    most: float
    """The largest share of the CPU that others used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Where the initial weights of a model are from, and what its loading noted."""

    model: str
    notes: tuple[str, ...]
    tag: str
    sha256: str | None
    revision: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What the runs of a table have in common, and what may limit their comparison.

    ``trained`` describes the training of runs without overrides; ``scorings`` is the number of trainings and of all
    scorings of the test split; ``elsewhere`` are runs (model, seed, machine) that another machine trained.
    """

    images: dict[str, int]
    split_source: str
    folds: TestedFolds | None
    data_digest: str
    split_digest: str
    removed: dict[str, int]
    undersampled: int
    duplicates: Duplicates
    grouped_by: str | None
    recipes: tuple[str, ...]
    trained: tuple[str, ...]
    cpu_model: str
    cpu_count: int
    ram_bytes: int
    gpu_name: str | None
    software: tuple[str, ...]
    scorings: tuple[int, int]
    disturbed: Disturbed | None
    missing: tuple[str, ...]
    excluded: tuple[ExcludedRun, ...]
    elsewhere: tuple[tuple[str, int, str], ...]
    weights: tuple[Weights, ...]


def conditions_of(table: Table) -> Conditions:
    """Return the conditions under which the runs of a table were made."""
    records, data, environment = table.records, table.first.dataset, table.first.environment
    models = {record.outcome.model.name: record.outcome.model for record in records if record.outcome is not None}
    return Conditions(
        images={name: sum(counts) for name, counts in data.counts.items()},
        # Records of earlier versions have the former word.
        split_source=re.sub("^ours", "generated", data.split_source),
        folds=table.folds,
        data_digest=data.digest,
        split_digest=data.folds_digest or data.split_digest,
        removed=data.removed,
        undersampled=data.undersampled,
        duplicates=Duplicates(
            groups=data.duplicate_groups,
            given_split=data.has_given_split,
            across_splits=data.duplicates_across_splits,
            leaks=data.test_leaks,
            dropped=data.leaks_dropped,
        ),
        grouped_by=None if data.grouped_by == UNGROUPED else data.grouped_by,
        recipes=tuple(sorted({record.base.recipe for record in records})),
        trained=_trained(records),
        cpu_model=environment.cpu_model,
        cpu_count=environment.cpu_count,
        ram_bytes=environment.ram_bytes,
        gpu_name=environment.gpu_name,
        # Runs of one table may be from several days: each combination of versions is listed once.
        software=tuple(sorted({_software(record) for record in records})),
        scorings=count_scorings(table),
        disturbed=_disturbed(table),
        missing=tuple(dict.fromkeys(note for record in records for note in record.dataset.missing)),
        excluded=table.excluded,
        elsewhere=tuple(
            (record.config.model, record.config.seed, record.outcome.environment.machine)
            for record in records
            if record.outcome is not None and record.outcome.environment.machine != record.environment.machine
        ),
        # By name: seeds of a model share their notes and weights.
        weights=tuple(map(_weights, models.values())),
    )


def _weights(model: ModelInfo) -> Weights:
    return Weights(
        model=model.name,
        notes=model.notes,
        tag=model.weights_tag,
        sha256=model.weights_sha256,
        revision=model.weights_revision,
    )


def _trained(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return how the runs without overrides trained: the recipe itself may have changed since."""
    # A row with overrides differs from the recipe as its Setting cell states, and must not represent it here.
    allowed = OF_THE_TABLE | {"precision"}
    plain = [record for record in records if record.ensemble is None and set(record.base.overrides) <= allowed]
    return tuple(dict.fromkeys(training_text(record.base) for record in plain))


def _software(record: RunRecord) -> str:
    environment, packages = record.environment, record.environment.packages
    onnxruntime = packages.get("onnxruntime-gpu") or packages.get("onnxruntime")
    return (
        f"Python {environment.python_version}, torch {packages.get('torch')}, timm {packages.get('timm')}, "
        f"onnxruntime {onnxruntime}, code {(environment.git_commit or 'unknown')[:8]}"
        f"{'+' if environment.git_dirty else ''}"
    )


def count_scorings(table: Table) -> tuple[int, int]:
    """Return the number of trainings scored on this test split, and of all scorings, repetitions included."""
    # Records that differ only in what was timed share a training: its scorings must not be added up.
    times: dict[str, int] = {}
    for record in table.records:
        if record.outcome is not None:
            times[record.train_id] = max(times.get(record.train_id, 0), record.test_scorings)
    return len(times), sum(times.values())


def _disturbed(table: Table) -> Disturbed | None:
    # By id: the rows of a default and a tuned setting that are equal share their training.
    trained = {
        record.train_id: ((row.name, record.config.seed), record.outcome.training)
        for row in table.rows
        for record in row.records
        if record.outcome and record.ensemble is None
    }
    beside = [(title, training.others_share or 0.0) for title, training in trained.values() if training.disturbed]
    if not beside:
        return None
    return Disturbed(
        trainings=tuple(title for title, _ in beside), total=len(trained), most=max(share for _, share in beside)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TunedRun:
    """A tuned run beside the run of the default setting, and the study that chose its setting.

    ``hyperparameters`` is None if the default was the best. The accuracies on val are of trials of the study.
    """

    model: str
    seed: int
    hyperparameters: dict[str, int | float] | None
    default_test: Estimate | None
    test: Estimate | None
    default_val: Estimate | None
    val: Estimate
    trials: int
    pruned: int
    failed: int
    tmacs: float
    minutes: float
    study: str


def tuned_runs(table: Table) -> tuple[TunedRun, ...]:
    """Return the tuned runs of a table."""
    scored = {
        record.run_id: checkpoint
        for row in table.rows
        for checkpoint in row.checkpoints
        for record in checkpoint.records
    }
    return tuple(_tuned(record, table.records, scored) for record in table.records if record.tuning is not None)


def _tuned(record: RunRecord, records: Sequence[RunRecord], scored: Mapping[str, Checkpoint]) -> TunedRun:
    tuning, images = record.tuning, sum(record.dataset.counts["val"])
    assert tuning is not None
    default_val = tuning.default_val_top1_accuracy
    # A study has one seed, while its setting may be run with several, each compared with the default of its own seed.
    own, base = record.config, record.base
    where = {name: getattr(own.train, name) for name in ("device", "devices", "train_threads")}
    train = replace(base.train, **where)
    default = replace(base, seed=own.seed, train=train, runtime=own.runtime)
    same = (other for other in records if other.tuning is None and (other.config, other.init) == (default, record.init))
    return TunedRun(
        model=record.config.model,
        seed=record.config.seed,
        hyperparameters=None if record.config == default else dict(tuning.hyperparameters),
        default_test=_test(next(same, None), scored),
        test=_test(record, scored),
        default_val=None if default_val is None else accuracy_of(default_val, images),
        val=accuracy_of(tuning.val_top1_accuracy, images),
        trials=tuning.trials,
        pruned=tuning.pruned,
        failed=tuning.failed,
        tmacs=tuning.tmacs,
        minutes=tuning.trial_time_s / 60,
        study=tuning.study,
    )


def _test(record: RunRecord | None, scored: Mapping[str, Checkpoint]) -> Estimate | None:
    checkpoint = None if record is None else scored.get(record.run_id)
    return None if checkpoint is None else of_interval(checkpoint.accuracy, accuracy_interval(checkpoint))


def accuracy_of(accuracy: float, images: int) -> Estimate:
    """Return an accuracy on independent images with its Wilson interval."""
    return of_interval(accuracy, wilson_interval(round(accuracy * images), images))
