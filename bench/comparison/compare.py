"""Two entries or runs side by side, on the same test images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.comparison.analysis import Findings
from bench.comparison.tables import Board, Checkpoint, Entry
from bench.records.predictions import Answers
from bench.stats.pairs import Right
from imgcls.errors import ConfigError

LEAST_OF_ID: Final = 4
"""Characters of a run's id that may name it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What a name on the command line stands for: an entry of a board, or one run of it."""

    name: str
    board: Board
    entry: Entry

    @property
    def answers(self) -> Answers | None:
        """The answers of its first checkpoint."""
        return self.entry.checkpoints[0].answers if self.entry.checkpoints else None

    @property
    def right(self) -> Right:
        """Whether each checkpoint is right on each image ``[S, N]``; raises ConfigError where that is not at hand."""
        right = self.entry.right
        if right is None:
            message = f"{self.name}: no predictions at hand; --force runs it again"
            raise ConfigError(message)
        return right


def choose(names: tuple[str, str], found: Sequence[Findings]) -> tuple[Side, Side]:
    """Find what two names stand for on the same test images."""
    sides = [_sides(name, found) for name in names]
    pairs = [(one, other) for one in sides[0] for other in sides[1] if _same_images(one, other)]
    same_table = [pair for pair in pairs if pair[0].board is pair[1].board]
    if not pairs:
        places = [
            sorted({f"{side.board.key.dataset}, split {side.board.key.split_digest}" for side in each})
            for each in sides
        ]
        message = (
            f"{names[0]} and {names[1]} were not tested on the same images ({'; '.join(places[0])} and "
            f"{'; '.join(places[1])}): runs on different test splits are not compared"
        )
        raise ConfigError(message)
    if len(chosen := same_table or pairs) > 1:
        tables = sorted({f"{pair[0].board.key.dataset} (table {pair[0].board.key.id})" for pair in chosen})
        message = f"{names[0]} and {names[1]} stand together in {', '.join(tables)}; say --data NAME or give runs' ids"
        raise ConfigError(message)
    return chosen[0]


def _sides(name: str, found: Sequence[Findings]) -> list[Side]:
    entries = [(one.board, entry) for one in found for entry in one.board.entries]
    sides = [Side(name=name, board=board, entry=entry) for board, entry in entries if entry.name == name]
    if not sides and len(name) >= LEAST_OF_ID:
        sides = [
            Side(name=f"{entry.name}, seed {one.seed}", board=board, entry=_alone(entry, one))
            for board, entry in entries
            for one in entry.checkpoints
            if len(one.records) == 1 and one.records[0].run_id.startswith(name)
        ]
    if not sides:
        known = sorted({entry.name for _, entry in entries})
        message = f"{name!r} is neither a row nor a run's id; rows: {', '.join(known) or 'none'}"
        raise ConfigError(message)
    return sides


def _alone(entry: Entry, checkpoint: Checkpoint) -> Entry:
    return replace(entry, records=checkpoint.records, checkpoints=(checkpoint,))


def _same_images(one: Side, other: Side) -> bool:
    if _data_of(one) != _data_of(other):
        return False
    ids = [side.answers.image_ids for side in (one, other) if side.answers is not None]
    return len(ids) < 2 or ids[0] == ids[1]  # noqa: PLR2004 - where one has no answers, that is said instead


def _data_of(side: Side) -> tuple[str, str, str]:
    return side.board.key.dataset, side.board.key.data_digest, side.board.key.split_digest
