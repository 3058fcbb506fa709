"""Statistics of a table, computed once for the leaderboard, the report and the comparison of two rows."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.comparison.agreement import ExcludedRun, excluded_run, predictions_of, warn_of_excluded
from bench.comparison.costs import Front, fronts
from bench.comparison.measures import MEASURES, Estimate
from bench.comparison.rows import Checkpoint, ComparedRow, Row, compared_row
from bench.comparison.scores import accuracy, bootstrapped, expected_eces, macro_f1, minority_classes
from bench.comparison.tables import CHECKPOINTS_SHOWN, Table, group, refusal
from bench.records.schema import RunRecord
from bench.records.store import read_records, recounted
from bench.stats.groups import (
    Groups,
    SeedComponent,
    component_of_values,
    meaningful,
    number_of,
    proportion_interval,
    seed_component,
)
from bench.stats.intervals import Score, wilson_interval
from bench.stats.losses import LossTests, compare_losses
from bench.stats.macro import MacroIntervals
from bench.stats.pairs import (
    ALPHA,
    SEEDS_FOR_MODELS,
    Paired,
    PairwiseTests,
    Right,
    compare_all,
    compare_pair,
    simultaneous,
)
from bench.stats.power import Power, power_of
from bench.stats.ranks import RankInterval, best_probabilities, rank_intervals

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaks:
    """Test images with a duplicate or near-duplicate in train or val, and the accuracy of the most accurate row.

    ``accuracy_of_others`` is that on the remaining test images; None without any.
    """

    number: int
    accuracy: float
    accuracy_of_others: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A table with the paired tests, rank intervals and minimum detectable difference of its rows.

    ``compared`` are the rows whose predictions are available, sorted by accuracy, the highest first, which is the order
    of ``pairwise``; ``ranks`` are by row id. ``groups`` ``[N]`` is the group of each test image, None if all are
    independent. All else is computed on first access and kept.
    """

    # No slots, as cached_property needs ``__dict__``. No generated equality, as it would compare arrays.
    table: Table
    compared: tuple[ComparedRow, ...]
    pairwise: PairwiseTests
    ranks: Mapping[str, RankInterval]
    power: Power | None
    groups: Groups | None

    @cached_property
    def ordered(self) -> tuple[Row, ...]:
        """All rows sorted by accuracy, the highest first; rows without a score are last."""
        # 1.0 is greater than any negated accuracy.
        return tuple(sorted(self.table.rows, key=lambda row: -row.accuracy if row.checkpoints else 1.0))

    @cached_property
    def independent(self) -> int:
        """Number of independent groups of test images."""
        return number_of(self.groups, self.number)

    @cached_property
    def majority(self) -> Score:
        """The accuracy of the majority-class baseline with its interval over test images."""
        share = self.table.majority.top1_accuracy
        right = self._majority_right
        interval = (
            wilson_interval(share * self.number, self.number)
            if right is None
            else proportion_interval(right, self.groups)
        )
        return Score(value=share, interval=interval)

    @cached_property
    def _majority_right(self) -> NDArray[np.bool_] | None:
        """Whether the majority-class baseline is correct on each test image ``[N]``; None without predictions."""
        if not self.compared:
            return None
        predictions = self.compared[0].predictions[0]
        label = self.table.first.dataset.class_names.index(self.table.majority.class_name)
        return np.asarray(predictions.labels == label)

    @cached_property
    def fronts(self) -> list[Front]:
        """The costs of the compared rows, and the probability of each row of being on each Pareto front."""
        return fronts(self.compared, self.measures, self.table, self.groups)

    @cached_property
    def measures(self) -> Mapping[str, Mapping[str, Estimate]]:
        """The measures of each row with a score, by row id and key, in base units."""
        scored = [row for row in self.table.rows if row.checkpoints]
        values = {row.row_id: {key: measure.of(self, row) for key, measure in MEASURES.items()} for row in scored}
        return {
            row_id: {key: estimate for key, estimate in own.items() if estimate is not None}
            for row_id, own in values.items()
        }

    @cached_property
    def minority(self) -> tuple[PairwiseTests, int, int] | None:
        """Tests of the same rows on the images of minority classes only, and the numbers of these and of their groups.

        None without any.
        """
        minority = minority_classes(self.table)
        if len(self.compared) < 2 or not minority:  # noqa: PLR2004 - a pair
            return None
        predictions = self.compared[0].predictions[0]
        rows = np.flatnonzero(np.isin(predictions.labels, minority))
        if len(rows) == 0:
            return None
        right: list[Right] = [row.right[:, rows] for row in self.compared]
        groups = None if self.groups is None else self.groups[rows]
        return compare_all(right, groups), len(rows), number_of(groups, len(rows))

    @cached_property
    def leaks(self) -> Leaks | None:
        """The test images that leaked into train or val; None if there are none, or if that is not known."""
        if not self.compared:
            return None
        predictions, right = self.compared[0].predictions[0], self.compared[0].right
        if predictions.leaked is None or not predictions.leaked.any():
            return None
        leaked = predictions.leaked
        others = float(right[:, ~leaked].mean()) if not leaked.all() else None
        return Leaks(number=int(leaked.sum()), accuracy=float(right[:, leaked].mean()), accuracy_of_others=others)

    @cached_property
    def shown_checkpoints(self) -> tuple[tuple[Row, Checkpoint], ...]:
        """The checkpoints that tables show one by one, each with its row."""
        every = [(row, checkpoint) for row in self.ordered for checkpoint in row.checkpoints]
        return tuple(every[:CHECKPOINTS_SHOWN])

    @cached_property
    def macros(self) -> Mapping[tuple[str, int], MacroIntervals]:
        """The intervals of macro-F1 and balanced accuracy of checkpoints, by row id and seed.

        Of those that tables show one by one, and of those that macro-F1 of their row needs.
        """
        first = [(row, checkpoint) for row in self.ordered for checkpoint in row.checkpoints[: self._of_macro]]
        keyed = {(row.row_id, checkpoint.seed): checkpoint for row, checkpoint in [*self.shown_checkpoints, *first]}
        return dict(zip(keyed, bootstrapped(list(keyed.values())), strict=True))

    @property
    def _of_macro(self) -> int | None:
        # Without several seeds, only the interval of the first checkpoint is read.
        return None if self._seeds_of_macro else 1

    @cached_property
    def seeds(self) -> SeedComponent | None:
        """The variance of accuracy between seeds, pooled over the rows; None if no row has several seeds."""
        right = [row.right for row in self.compared]
        return seed_component(right, self.groups) or self._component(lambda checkpoint: checkpoint.accuracy)

    @cached_property
    def _seeds_of_macro(self) -> SeedComponent | None:
        return self._component(lambda checkpoint: checkpoint.macro_scores[0])

    def _component(self, score: Callable[[Checkpoint], float]) -> SeedComponent | None:
        rows = [row for row in self.table.rows if row.checkpoints]
        return component_of_values([np.array([score(checkpoint) for checkpoint in row.checkpoints]) for row in rows])

    def accuracy(self, row: Row) -> Score:
        """Return top-1 accuracy with its interval: over images and seeds if a row of the table has several."""
        return accuracy(row, self.groups, self.seeds)

    def macro_f1(self, row: Row) -> Score:
        """Return macro-F1 with its interval: over images and seeds if a row of the table has several."""
        checkpoints = row.checkpoints[: self._of_macro]
        # A single run of a row has the id of the row.
        keys = [(row.row_id, checkpoint.seed) for checkpoint in checkpoints]
        return macro_f1(row, [self.macros[key].macro_f1 for key in keys], self._seeds_of_macro)

    @cached_property
    def expected_eces(self) -> Mapping[tuple[str, int], tuple[float, float]]:
        """Mean and 95th percentile of the ECE of perfectly calibrated models with the same confidences.

        Of the checkpoints that tables show one by one and whose predictions are available, by row id and seed.
        """
        stored = {
            (row.row_id, checkpoint.seed): checkpoint.predictions
            for row, checkpoint in self.shown_checkpoints
            if checkpoint.predictions is not None
        }
        return dict(zip(stored, expected_eces(list(stored.values())), strict=True))

    @cached_property
    def no_better_than_majority(self) -> tuple[ComparedRow, ...]:
        """The compared rows with a seed that is not significantly more accurate than the majority-class baseline.

        By the test of single checkpoints, not adjusted for several rows. Every seed counts: a mean above the baseline
        may hide a seed that learned nothing.
        """
        baseline = self._majority_right
        if baseline is None:
            return ()

        def better(right: Right) -> bool:
            tests = compare_all([right[None], baseline[None]], self.groups)
            return bool(tests.apart[0, 1] and tests.differences[0, 1] > 0)

        return tuple(row for row in self.compared if not all(map(better, row.right)))

    @cached_property
    def losses(self) -> LossTests | None:
        """Tests of log loss at the temperatures fitted on val, in the order of the compared rows.

        None without two rows, or if a record has no calibrated log-probabilities.
        """
        row_losses = [losses for row in self.compared if (losses := row.losses) is not None]
        if len(row_losses) < 2 or len(row_losses) < len(self.compared):  # noqa: PLR2004 - a pair
            return None
        return compare_losses(row_losses, self.groups)

    @cached_property
    def best(self) -> Mapping[str, float]:
        """The bootstrap probability of each compared row of being the most accurate, over test groups and seeds."""
        right = [row.right for row in self.compared]
        shares = best_probabilities(right, self.groups).tolist()
        return {row.row_id: share for row, share in zip(self.compared, shares, strict=True)}

    def pair(self, first: ComparedRow, second: ComparedRow) -> Paired:
        """Return the paired test of two rows: the first minus the second.

        The intervals of all pairs of the table hold together, and agree with the adjusted p values.
        """
        number = len(self.compared)
        level = ALPHA / max(number * (number - 1) // 2, 1)
        paired = compare_pair(first.right, second.right, self.groups, level=level)
        return replace(paired, interval=simultaneous(paired, self.adjusted(first, second)))

    def adjusted(self, first: Row, second: Row) -> float:
        """Return the p value of a pair, adjusted by Holm's method over all pairs of the table."""
        indices = {row.row_id: index for index, row in enumerate(self.compared)}
        return float(self.pairwise.holm[indices[first.row_id], indices[second.row_id]])

    @property
    def not_compared(self) -> list[Row]:
        """Rows that have a score but no predictions."""
        return [row for row in self.table.rows if row.checkpoints and row.row_id not in self.ranks]

    @property
    def about_models(self) -> bool:
        """Whether all compared rows have enough seeds for conclusions about models instead of these checkpoints."""
        return bool(self.compared) and all(len(row.checkpoints) >= SEEDS_FOR_MODELS for row in self.compared)

    @property
    def number(self) -> int:
        """Number of test images."""
        return sum(self.table.test_counts)


def find(table: Table) -> Comparison:
    """Compare all rows of a table whose predictions are available."""
    checkpoints = [checkpoint for row in table.rows for checkpoint in row.checkpoints]
    images = next((checkpoint.predictions.image_ids for checkpoint in checkpoints if checkpoint.predictions), ())
    rows = [row for row in (compared_row(row, images) for row in table.rows) if row is not None]
    compared = sorted(rows, key=lambda row: -row.accuracy)
    right, groups = [row.right for row in compared], groups_of(compared)
    pairwise = compare_all(right, groups)
    return Comparison(
        table=table,
        compared=tuple(compared),
        pairwise=pairwise,
        ranks={row.row_id: rank for row, rank in zip(compared, rank_intervals(pairwise), strict=True)},
        power=power_of(right, groups),
        groups=groups,
    )


def groups_of(rows: Sequence[Row]) -> Groups | None:
    """Return the group of each test image ``[N]`` of rows with the same images, or None if each image is alone."""
    # Records that were made before groups were stored have none, while others of the same table may have them.
    groupings = (
        checkpoint.predictions.group
        for row in rows
        for checkpoint in row.checkpoints
        if checkpoint.predictions is not None
    )
    return next((groups for group in groupings if (groups := meaningful(group)) is not None), None)


def read(results: Path, machine: str | None = None) -> list[Comparison]:
    """Read all records of a results folder, and compare the rows of each of their tables.

    GMACs of an older method of counting are those of the present one where the network can be built.

    Latency is that of ``machine``; None: of each table's own (``bench.comparison.tables.group``).
    """
    return compare_records(recounted(read_records(results)), results, machine)


def compare_records(records: Sequence[RunRecord], results: Path, machine: str | None = None) -> list[Comparison]:
    """Group records into tables, and compare the rows of each table.

    A run whose predictions do not agree with its record is excluded, and a table of too many rows refused, with a
    warning.
    """
    comparisons, refusals = compare_or_refuse(records, results, machine)
    for reason in refusals:
        LOGGER.warning(reason)
    return comparisons


def compare_or_refuse(
    records: Sequence[RunRecord], results: Path, machine: str | None = None
) -> tuple[list[Comparison], list[str]]:
    """Return the comparisons of tables, and the reasons why other tables are refused; log which runs are excluded."""
    tables, excluded = grouped(records, results, machine)
    warn_of_excluded(excluded)
    refusals = [refusal(table.key, len(table.rows)) for table in tables if table.refused]
    return [find(table) for table in tables if not table.refused], refusals


def grouped(
    records: Sequence[RunRecord], results: Path, machine: str | None = None
) -> tuple[list[Table], list[ExcludedRun]]:
    """Group records with their predictions into tables; also return the runs whose parts do not agree."""
    predictions, disagreeing = predictions_of(records, results)
    excluded = [excluded_run(record, disagreeing[record.run_id]) for record in records if record.run_id in disagreeing]
    return group(records, predictions, machine, disagreeing=disagreeing), excluded
