"""Tables from records: which runs are comparable, and the rows of a table with their seeds and folds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from bench.comparison.agreement import ExcludedRun, PredictionsByRun, excluded_run
from bench.comparison.latencies.sessions import Sessions, sessions_of
from bench.comparison.latencies.speeds import Network
from bench.comparison.rows import AnyRow, Checkpoint, Row
from bench.comparison.settings import described
from bench.config import Budget, without_repetition
from bench.records.ids import hash_of, identity
from bench.records.predictions import StoredPredictions, pool
from bench.records.schema import RunRecord
from imgcls.evaluation.baseline import Majority, always

MOST_ROWS: Final = 300
"""Rows of a table up to which it is shown: 44,850 pairs."""

CHECKPOINTS_SHOWN: Final = 100
"""Checkpoints that tables show one by one, from the first rows: bootstraps of all would take most of the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableKey:
    """What must be equal for two runs to be in one table: data, split, budget and training machine.

    With folds, ``split_digest`` is the digest of all folds together.
    """

    dataset: str
    data_digest: str
    split_digest: str
    budget: Budget
    machine: str

    @property
    def id(self) -> str:
        """A short id for headings and for ``--table``."""
        # Short enough to type; a results folder holds few tables.
        return hash_of(self)[:6]


@dataclass(frozen=True, kw_only=True, slots=True)
class TestedFolds:
    """The number of folds of a division, and how many of them are tested."""

    number: int
    tested: int

    @property
    def are_all(self) -> bool:
        """Whether every image is tested once."""
        return self.tested == self.number

    def __str__(self) -> str:
        """Return it in words, such as "5 folds" or "1 of 2 folds"."""
        return f"{self.number} folds" if self.are_all else f"{self.tested} of {self.number} folds"


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of runs with the same images, split, budget and training machine.

    ``measured_on`` is the machine whose latency is shown, the same for all rows; others are in tables that name them.
    """

    key: TableKey
    rows: tuple[Row, ...]
    sessions: Sessions
    measured_on: str
    excluded: tuple[ExcludedRun, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether it has too many rows to be shown."""
        return len(self.rows) > MOST_ROWS

    @property
    def records(self) -> list[RunRecord]:
        """The records of all rows."""
        return [record for row in self.rows for record in row.records]

    @property
    def machines(self) -> list[str]:
        """The machines that have measured latency, the one that trained first."""
        return _machines(self.records, self.key.machine)

    @property
    def first(self) -> RunRecord:
        """A record of this table, for what all of them have in common."""
        return self.rows[0].records[0]

    @property
    def folds(self) -> TestedFolds | None:
        """The folds whose images are tested; None without folds."""
        number, tested = self.first.config.split.folds, len(_folds(self.records))
        return None if number is None else TestedFolds(number=number, tested=tested or number)

    @property
    def test_counts(self) -> list[int]:
        """Numbers of test images of each class; with folds the images of all that are tested."""
        return self.counts("test")

    def counts(self, split: str) -> list[int]:
        """Return the numbers of images of each class in a split; with folds, their sum over folds."""
        whole = next((checkpoint for row in self.rows for checkpoint in row.checkpoints), None)
        records = whole.records if whole else (self.first,)
        return [int(total) for total in np.sum([record.dataset.counts[split] for record in records], axis=0)]

    @property
    def majority(self) -> Majority:
        """The majority-class baseline on the images of this table."""
        return always(self.first.dataset.class_names, train=self.counts("train"), test=self.test_counts)


def refusal(key: TableKey, rows: int) -> str:
    """Return why a table of more than ``MOST_ROWS`` rows is refused, and what to do."""
    return (
        f"table {key.id} of {key.dataset} is refused: it has {rows} rows, and at most {MOST_ROWS} are compared, as "
        "every row is compared with every other; move some of its records to another folder, and give it by --results"
    )


def table_key(record: RunRecord) -> TableKey:
    """Return the key of a run's table; a tuned run is in the table of the default that it is compared with."""
    data = record.dataset
    return TableKey(
        dataset=data.name,
        data_digest=data.digest,
        split_digest=data.folds_digest or data.split_digest,
        budget=record.base.budget,
        machine=record.environment.machine,
    )


def group(
    records: Sequence[RunRecord],
    predictions: PredictionsByRun,
    machine: str | None = None,
    *,
    disagreeing: Mapping[str, str] = MappingProxyType({}),
) -> list[Table]:
    """Return the tables of some records, in order of data set, split, budget and machine.

    Runs that are ``disagreeing`` are in no row, but named by the table if it has another one. Latency is that of
    ``machine``; if None, of the table's own machine, or of another one if that has measured nothing.
    """
    tables: defaultdict[TableKey, list[RunRecord]] = defaultdict(list)
    excluded: defaultdict[TableKey, list[ExcludedRun]] = defaultdict(list)
    for record in records:
        reason = disagreeing.get(record.run_id)
        if reason is None:
            tables[table_key(record)].append(record)
        else:
            excluded[table_key(record)].append(excluded_run(record, reason))
    return [
        replace(_table(key, tables[key], predictions, machine), excluded=tuple(excluded[key]))
        for key in sorted(tables, key=order_of)
    ]


def _table(key: TableKey, records: Sequence[RunRecord], predictions: PredictionsByRun, machine: str | None) -> Table:
    # One machine for all rows: latencies of two machines in one column could not be compared.
    measured_on = machine or (*_machines(records, key.machine), key.machine)[0]
    return Table(
        key=key,
        rows=_rows(records, predictions, measured_on),
        sessions=sessions_of(
            row for record in records for latency in record.latency.values() for row in latency.measurements
        ),
        measured_on=measured_on,
    )


def _machines(records: Sequence[RunRecord], own: str) -> list[str]:
    machines = {name for record in records for name, latency in record.latency.items() if latency.measurements}
    return sorted(machines, key=lambda name: (name != own, name))


def order_of(key: TableKey) -> tuple[str, ...]:
    """Return what tables are sorted by."""
    # The budget as text, because its fields may be None, which cannot be compared with a number.
    return key.dataset, key.data_digest, key.split_digest, str(key.budget), key.machine


def _rows(table: Sequence[RunRecord], predictions: PredictionsByRun, measured_on: str) -> tuple[Row, ...]:
    rows: defaultdict[tuple[str, str | None], list[RunRecord]] = defaultdict(list)
    # Successful runs first: a failed one joins a row that exists, because its own weights are not known.
    for record in sorted(table, key=lambda record: record.outcome is None):
        rows[_place(record, rows)].append(record)
    ids = {hash_of(key): records for key, records in rows.items()}
    first = {row_id: records[0] for row_id, records in ids.items()}
    settings, names = described(first)
    # The same images for all rows: of the folds that any row has. A user may want one of them only.
    folds, networks = _folds(table), _networks(table)
    made = [
        _row(
            records,
            predictions,
            folds=folds,
            row_id=row_id,
            name=names[row_id],
            setting=settings[row_id],
            measured_on=measured_on,
            networks=tuple(network for network in networks if any(network.id == record.network for record in records)),
        )
        for row_id, records in ids.items()
    ]
    return tuple(sorted(made, key=lambda row: (row.name, row.records[0].run_id)))


def members_of(ensemble: Row, rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Return the rows that hold a member of an ensemble's networks."""
    members = {member.run_id for record in ensemble.records if record.ensemble for member in record.ensemble.members}
    return [row for row in rows if any(record.run_id in members for record in row.records)]


def _networks(table: Sequence[RunRecord]) -> list[Network]:
    runs: defaultdict[str, list[RunRecord]] = defaultdict(list)
    # Default settings first, so that rows of other settings show their figure, and not the other way round.
    for record in sorted(
        table, key=lambda record: (record.tuning is not None, len(record.config.overrides), *_repetition(record))
    ):
        if record.network is not None:
            runs[record.network].append(record)
    return [Network(id=name, records=tuple(records)) for name, records in runs.items()]


def _repetition(record: RunRecord) -> tuple[int, int, str]:
    return record.config.seed, record.config.split.fold or 0, record.run_id


def _place(record: RunRecord, rows: Mapping[tuple[str, str | None], object]) -> tuple[str, str | None]:
    """Return what identifies a row: the setting without seed and fold, and the digest of the initial weights.

    A failed run has no digest of weights, and joins the first row of its setting.
    """
    setting = setting_id(record)
    if record.outcome is None:
        return next((key for key in rows if key[0] == setting), (setting, None))
    return setting, record.outcome.model.weights_sha256


def setting_id(record: RunRecord) -> str:
    """Return the id of what the seeds and folds of a row have in common, without the digest of its weights."""
    ensemble = record.ensemble
    made = [ensemble.rule, *(ensemble.candidate_ids or ensemble.candidates)] if ensemble else []
    study = record.tuning.study if record.tuning else None
    return hash_of([identity(without_repetition(record.config)), record.init, study, *made])


def _folds(records: Sequence[RunRecord]) -> set[int | None]:
    return {record.config.split.fold for record in records if record.outcome is not None}


def _row(  # noqa: PLR0913 - the fields of a row
    runs: Sequence[RunRecord],
    predictions: PredictionsByRun,
    *,
    folds: set[int | None],
    row_id: str,
    name: str,
    setting: tuple[str, ...],
    measured_on: str,
    networks: tuple[Network, ...],
) -> Row:
    seeds: defaultdict[int, list[RunRecord]] = defaultdict(list)
    # Sorted, so that which seed is the first one does not depend on the order of the files.
    for record in sorted(runs, key=_repetition):
        seeds[record.config.seed].append(record)
    checkpoints, incomplete = [], []
    for seed, records in sorted(seeds.items()):
        done = _latest_of_each_fold([record for record in records if record.outcome is not None])
        # A seed without one of the folds of the table was tested on other images than the rows that have it.
        if done and len(done) == len(folds):
            checkpoints.append(Checkpoint(seed=seed, records=tuple(done), predictions=_pooled(done, predictions)))
        elif done:
            incomplete.append(f"seed {seed}: {len(done)} of {len(folds)} folds")
    return Row(
        row_id=row_id,
        name=name,
        setting=setting,
        init=runs[0].init,
        records=tuple(runs),
        checkpoints=tuple(checkpoints),
        incomplete=tuple(incomplete),
        measured_on=measured_on,
        networks=networks,
    )


def _latest_of_each_fold(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the latest run of each fold, as runs that differ only in what was timed share a training."""
    started = sorted(records, key=lambda record: record.started_at)
    latest = {record.config.split.fold: record for record in started}
    return [latest[fold] for fold in sorted(latest, key=lambda fold: fold or 0)]


def _pooled(records: Sequence[RunRecord], predictions: PredictionsByRun) -> StoredPredictions | None:
    parts = [predictions[record.run_id] for record in records if record.run_id in predictions]
    return pool(parts) if len(parts) == len(records) else None
