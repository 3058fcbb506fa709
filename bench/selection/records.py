"""What a race knows of each candidate: its costs, its score in each round, and when and why it left; and its record."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from bench.comparison.measures import Estimate
from bench.records.paths import Paths
from bench.records.schema import Selection
from bench.records.store import read_versioned, write_with_digest

RACE_VERSION: Final = 1

Reason = Literal["latency", "failed", "significantly worse", "budget"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Departure:
    """Why a candidate left, and the round after which it did; None: before the first."""

    reason: Reason
    round: int | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A candidate's form of one round: val images that are correct (packed), and seconds that it took.

    ``at_s`` is the time of the race at its end.
    """

    round: int
    val_top1_accuracy: float
    right: str
    seconds: float
    at_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrant:
    """A candidate: its network's costs, p90 latency in ms at batch 1, scores, and departure; None: it is a finalist.

    ``forward_s`` are seconds of a forward pass per image where it trains. ``latency`` is None if it was not measured.
    """

    number: int
    model: str
    image_size: int
    forward_s: float = 0.0
    num_params: int = 0
    gmacs: float = 0.0
    latency: Estimate | None = None
    scores: tuple[Scored, ...] = ()
    left: Departure | None = None

    @property
    def name(self) -> str:
        """The model and its size."""
        return f"{self.model}, {self.image_size} px"

    @property
    def last(self) -> Scored | None:
        """Its score in the last round that it finished."""
        return self.scores[-1] if self.scores else None

    def scored(self, index: int) -> Scored | None:
        """Return its score in a round, if it finished that."""
        return next((score for score in self.scores if score.round == index), None)

    def entered(self, index: int) -> bool:
        """Return whether it was still a candidate when a round began."""
        return self.left is None or (self.left.round is not None and self.left.round >= index)


Keep = Callable[[Entrant], None]
"""Stores the state of a candidate, so that a race continues after a kill."""


class Ledger:
    """The candidates of a race by number; each change is kept before it takes effect."""

    def __init__(self, entrants: Iterable[Entrant], keep: Keep = lambda _entrant: None) -> None:
        """Start with entrants as they were kept."""
        self._entrants = {entrant.number: entrant for entrant in entrants}
        self._keep = keep

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        """All candidates, in the order of their numbers."""
        return tuple(self._entrants[number] for number in sorted(self._entrants))

    def score(self, number: int, scored: Scored) -> None:
        """Add the score of a round."""
        entrant = self._entrants[number]
        self._put(replace(entrant, scores=(*entrant.scores, scored)))

    def leave(self, number: int, departure: Departure) -> None:
        """Note when and why a candidate left."""
        assert self._entrants[number].left is None, "a candidate leaves once"
        self._put(replace(self._entrants[number], left=departure))

    def _put(self, entrant: Entrant) -> None:
        self._keep(entrant)
        self._entrants[entrant.number] = entrant


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceRecord:
    """A finished race: its summary, which the records of its finalists have too, and all of its candidates."""

    race_version: int
    selection: Selection
    dataset: str
    recipe: str
    machine: str
    git_commit: str | None
    command: str
    entrants: tuple[Entrant, ...]
    finals_s: float
    """Seconds from the last round to the table: further seeds, evaluation, export and measuring."""


def race_file(results: Path, name: str) -> Path:
    """Return the file of a race's record."""
    return Paths(results=results).selections / f"{name}.json"


def kept_or_written(record: RaceRecord, results: Path) -> RaceRecord:
    """Write the record of a finished race, and return it; one with the same result stays, with its times."""
    path = race_file(results, record.selection.name)
    with contextlib.suppress(OSError, ValueError):
        if (kept := read_race(path)).selection == record.selection:
            return kept
    write_with_digest(record, path)
    return record


def read_race(path: Path) -> RaceRecord:
    """Read the record of a race; raises ValueError if it is damaged or of an unknown version."""
    return read_versioned(path, RaceRecord, key="race_version", version=RACE_VERSION, upgrade=dict)
