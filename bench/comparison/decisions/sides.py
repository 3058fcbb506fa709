"""The rows and runs that names on a command line refer to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.comparison.analysis import Comparison
from bench.comparison.rows import Row
from bench.comparison.tables import Table
from bench.records.predictions import StoredPredictions
from bench.stats.pairs import Right
from imgcls.errors import ConfigError

LEAST_OF_ID: Final = 4
"""Minimum number of leading characters of an id that identify a row or a run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """A row of a table, or a single run of it as a row of its own, that a name on the command line refers to."""

    name: str
    comparison: Comparison
    row: Row

    @property
    def table(self) -> Table:
        """The table of the row."""
        return self.comparison.table

    @property
    def predictions(self) -> StoredPredictions | None:
        """The predictions of the first checkpoint."""
        return self.row.checkpoints[0].predictions if self.row.checkpoints else None

    @property
    def right(self) -> Right:
        """Whether each checkpoint is correct on each image ``[S, N]``; raises ConfigError without predictions."""
        right = self.row.right
        if right is None:
            message = f"{self.name}: predictions are not available; --force runs it again"
            raise ConfigError(message)
        return right


def choose(names: tuple[str, str], comparisons: Sequence[Comparison]) -> tuple[Side, Side]:
    """Return the rows or runs that two names refer to, on the same test images.

    Raises ConfigError if a name is unknown or ambiguous, or if the two were tested on different images.
    """
    sides = [_sides(name, comparisons) for name in names]
    pairs = [(first, second) for first in sides[0] for second in sides[1] if _same_images(first, second)]
    same_table = [pair for pair in pairs if pair[0].table is pair[1].table]
    if not pairs:
        splits = [
            sorted({f"{side.table.key.dataset}, split {side.table.key.split_digest}" for side in matches})
            for matches in sides
        ]
        message = (
            f"{names[0]} and {names[1]} were not tested on the same images ({'; '.join(splits[0])} and "
            f"{'; '.join(splits[1])}): runs on different test splits are not compared"
        )
        raise ConfigError(message)
    # Two rows of one table have had the same budget, which makes them the more likely meaning of the two names.
    if len(chosen := same_table or pairs) > 1:
        tables = sorted({f"{pair[0].table.key.dataset} (table {pair[0].table.key.id})" for pair in chosen})
        message = f"{names[0]} and {names[1]} are both in {', '.join(tables)}; add --table ID, or use the runs' ids"
        raise ConfigError(message)
    return chosen[0]


def rows_named(names: Sequence[str], comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the rows of one table that names refer to, in order; raises ConfigError unless there is one such table."""
    sides = [_sides(name, comparisons) for name in names]
    tables = {side.table.key.id: side.table for matches in sides for side in matches}
    chosen = {
        key: [next((side.row for side in matches if side.table is table), None) for matches in sides]
        for key, table in tables.items()
    }
    whole = {key: [row for row in rows if row is not None] for key, rows in chosen.items() if None not in rows}
    if len(whole) != 1:
        where = (
            f"are all in tables {', '.join(whole)}" if whole else "are not in one table: data, split or budget differ"
        )
        message = f"{', '.join(names)} {where}{'; add --table ID' if whole else ''}"
        raise ConfigError(message)
    return next(iter(whole.values()))


def _sides(name: str, comparisons: Sequence[Comparison]) -> list[Side]:
    rows = [(comparison, row) for comparison in comparisons for row in comparison.table.rows]
    sides = [Side(name=name, comparison=comparison, row=row) for comparison, row in rows if row.name == name]
    # Names of rows take precedence, as the name of a model may also be the beginning of an id.
    if not sides and len(name) >= LEAST_OF_ID:
        sides = [
            Side(name=row.name, comparison=comparison, row=row)
            for comparison, row in rows
            if row.row_id.startswith(name)
        ]
        sides += [
            Side(
                name=f"{row.name}, seed {checkpoint.seed}",
                comparison=comparison,
                row=replace(row, records=checkpoint.records, checkpoints=(checkpoint,)),
            )
            for comparison, row in rows
            for checkpoint in row.checkpoints
            # A run of one fold has predictions for that fold's images only, and cannot stand for the row.
            if len(checkpoint.records) == 1 and checkpoint.records[0].run_id.startswith(name)
        ]
    if not sides:
        names = sorted({row.name for _, row in rows})
        message = f"unknown row or run {name!r}; available rows: {', '.join(names) or 'none'}"
        raise ConfigError(message)
    return sides


def _same_images(first: Side, second: Side) -> bool:
    if _data_of(first) != _data_of(second):
        return False
    ids = [side.predictions.image_ids for side in (first, second) if side.predictions is not None]
    return len(ids) < 2 or ids[0] == ids[1]  # noqa: PLR2004 - missing predictions are reported by ``Side.right``


def _data_of(side: Side) -> tuple[str, str, str]:
    return side.table.key.dataset, side.table.key.data_digest, side.table.key.split_digest
