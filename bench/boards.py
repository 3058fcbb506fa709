"""Records to boards: the runs that may stand in one table, and its entries, each a setting with its seeds and folds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.macro import macro_scores
from bench.majority import Majority, always
from bench.pairs import Right
from bench.predictions import Answers, pool, read_answers
from bench.recipes import describe_budget, describe_sizes
from bench.records import Outcome, RunRecord, hash_of
from imgcls.config import RuntimeConfig

TableKey = tuple[str, str, str, str, str, str, str]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One seed of an entry: one run, or one run a fold, all of them ok; answers are None where not at hand."""

    seed: int
    records: tuple[RunRecord, ...]
    answers: Answers | None

    @cached_property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What the run, or each fold, gave."""
        return tuple(record.outcome for record in self.records if record.outcome is not None)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Test images by true (rows) and predicted class, ``[C, C]``."""
        each = [outcome.metrics.test_confusion_matrix for outcome in self.outcomes]
        return np.asarray(np.sum(each, axis=0, dtype=np.int64))

    @cached_property
    def accuracy(self) -> float:
        """Top-1 accuracy on test."""
        return self.mean("test", "top1_accuracy")

    @cached_property
    def macro_scores(self) -> tuple[float, float]:
        """Macro-F1 and balanced accuracy on test."""
        return macro_scores(self.confusion)

    def mean(self, split: str, metric: str) -> float:
        """Average a metric over folds by their numbers of images; raises KeyError for a metric that was not taken."""
        values = [getattr(outcome.metrics, f"{split}_metrics")[metric] for outcome in self.outcomes]
        if len(values) == 1:
            return float(values[0])
        return float(np.average(values, weights=[sum(record.dataset.counts[split]) for record in self.records]))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of a table: one setting of one model, with every seed that is whole, and the runs that are not."""

    name: str
    init: str
    records: tuple[RunRecord, ...]
    checkpoints: tuple[Checkpoint, ...]
    incomplete: tuple[str, ...]

    @property
    def first(self) -> RunRecord:
        """A record of this entry, for what all of them share; a good one where there is one."""
        return self.checkpoints[0].records[0] if self.checkpoints else self.records[0]

    @property
    def outcome(self) -> Outcome:
        """What the first good run gave, for what all of them share, such as the number of parameters."""
        assert self.first.outcome is not None
        return self.first.outcome

    @cached_property
    def right(self) -> Right | None:
        """Whether each checkpoint is right on each image ``[S, N]``; None where answers are missing."""
        answers = [checkpoint.answers for checkpoint in self.checkpoints]
        if not answers or None in answers:
            return None
        return np.stack([answer.right for answer in answers if answer is not None])


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """One table: runs on the same images, split, budget, size rule and machine."""

    key: TableKey
    entries: tuple[Entry, ...]

    @property
    def records(self) -> list[RunRecord]:
        """All runs."""
        return [record for entry in self.entries for record in entry.records]

    @property
    def first(self) -> RunRecord:
        """Any run, for what all of them share."""
        return self.entries[0].records[0]

    @property
    def test_counts(self) -> list[int]:
        """Test images of each class; with folds all images, each tested once."""
        return self.counts("test")

    def counts(self, split: str) -> list[int]:
        """Images of each class in a split; with folds their sum over folds."""
        whole = next((one for entry in self.entries for one in entry.checkpoints), None)
        records = whole.records if whole else (self.first,)
        return [int(total) for total in np.sum([record.dataset.counts[split] for record in records], axis=0)]

    @property
    def majority(self) -> Majority:
        """What always answering the class with the most training images scores."""
        return always(self.first.dataset.class_names, train=self.counts("train"), test=self.test_counts)


def table_key(record: RunRecord) -> TableKey:
    """Give what must be equal for two runs to stand in one table."""
    config, data = record.base, record.dataset
    return (
        data.name,
        data.digest,
        data.folds_digest or data.split_digest,
        config.recipe,
        describe_budget(config),
        describe_sizes(config),
        record.environment.machine,
    )


def group(records: Sequence[RunRecord], results: Path) -> list[Board]:
    """Sort records into boards, and each board's records into entries."""
    tables: defaultdict[TableKey, list[RunRecord]] = defaultdict(list)
    for record in records:
        tables[table_key(record)].append(record)
    return [Board(key=key, entries=_entries(tables[key], results)) for key in sorted(tables)]


def model_name(record: RunRecord) -> str:
    """Name the model of a run, and say where its setting is a tuned one."""
    return f"{record.config.model} (tuned)" if record.tuning else record.config.model


def _entries(table: Sequence[RunRecord], results: Path) -> tuple[Entry, ...]:
    settings: defaultdict[tuple[str, str | None], list[RunRecord]] = defaultdict(list)
    for record in sorted(table, key=lambda record: record.outcome is None):
        settings[_place(record, settings)].append(record)
    groups = sorted(settings.values(), key=lambda runs: (model_name(runs[0]), runs[0].init, runs[0].run_id))
    names = [model_name(runs[0]) for runs in groups]
    for detail in (_init, _origin):
        details = [detail(runs[0]) if names.count(name) > 1 else "" for name, runs in zip(names, groups, strict=True)]
        names = [f"{name} ({more})" if more else name for name, more in zip(names, details, strict=True)]
    return tuple(_entry(runs, results, name=name) for name, runs in zip(names, groups, strict=True))


def _init(record: RunRecord) -> str:
    return record.init


def _origin(record: RunRecord) -> str:
    """Tell apart what has one name and start: by its study, by its weights, or by its setting."""
    weights = record.outcome.model.weights_sha256 if record.outcome else None
    return record.tuning.study if record.tuning else (weights or hash_of(record.config))[:8]


def _place(record: RunRecord, settings: Mapping[tuple[str, str | None], object]) -> tuple[str, str | None]:
    """Identify what all seeds and folds of an entry share; a failed run, which loaded no weights, joins the others."""
    config = record.config
    shared = replace(config, seed=0, split=replace(config.split, fold=None), runtime=RuntimeConfig())
    setting = hash_of([shared, record.init, record.tuning.study if record.tuning else None])
    if record.outcome is None:
        return next((place for place in settings if place[0] == setting), (setting, None))
    return setting, record.outcome.model.weights_sha256


def _entry(runs: Sequence[RunRecord], results: Path, *, name: str) -> Entry:
    seeds: defaultdict[int, list[RunRecord]] = defaultdict(list)
    for record in sorted(runs, key=lambda record: (record.config.seed, record.config.split.fold or 0, record.run_id)):
        seeds[record.config.seed].append(record)
    checkpoints, incomplete = [], []
    for seed, records in sorted(seeds.items()):
        done = _latest_of_each_fold([record for record in records if record.outcome is not None])
        wanted = records[0].config.split.folds or 1
        if len(done) == wanted:
            checkpoints.append(Checkpoint(seed=seed, records=tuple(done), answers=_pooled(done, results)))
        elif done:
            incomplete.append(f"seed {seed}: {len(done)} of {wanted} folds")
    return Entry(
        name=name,
        init=runs[0].init,
        records=tuple(runs),
        checkpoints=tuple(checkpoints),
        incomplete=tuple(incomplete),
    )


def _latest_of_each_fold(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Keep one run a fold: runs that differ in nothing but what was timed are one training."""
    started = sorted(records, key=lambda record: record.started_at)
    latest = {record.config.split.fold: record for record in started}
    return [latest[fold] for fold in sorted(latest, key=lambda fold: fold or 0)]


def _pooled(records: Sequence[RunRecord], results: Path) -> Answers | None:
    parts = [read_answers(record, results) for record in records]
    found = [part for part in parts if part is not None]
    return pool(found) if len(found) == len(parts) else None
