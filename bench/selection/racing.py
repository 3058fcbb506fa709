"""The race: rounds of growing cost, after each of which candidates leave; the last one determines the finalists."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.runs.plan import Task
from bench.selection.forms import Form, FormTask, Stage, unpacked
from bench.selection.records import Departure, Entrant, Ledger, Scored
from bench.selection.schedule import LAST_PART, NEXT_PART, Costs
from bench.stats.groups import Groups
from bench.stats.pairs import Right
from bench.stats.races.departures import levels_of, significantly_worse
from bench.stats.races.missed import RoundScores, best_left_by_budget

LOGGER = logging.getLogger(__name__)


Crew = Callable[[Iterator[FormTask]], Iterator[tuple[FormTask, Form, float]]]
"""Trains forms, several at a time where that is possible, and yields each with its seconds when it has ended.

The next form is taken when it can begin: whether it fits into the time is decided then.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """A race: its candidates and their runs with seed 0, its rounds, the images of val, and the time.

    ``clock`` returns the seconds that the race has taken so far, those before an interruption included. It may take
    ``limit_s``, of which ``kept_s`` are for what follows the table. ``crew_size`` forms are trained at a time.
    """

    ledger: Ledger
    tasks: Mapping[int, Task]
    stages: tuple[Stage, ...]
    costs: Costs
    crew: Crew
    val_images: int
    val_groups: Groups | None
    finalists: int
    limit_s: float
    kept_s: float = 0.0
    crew_size: int = 1
    clock: Callable[[], float] = time.perf_counter

    @property
    def levels(self) -> tuple[float, ...]:
        """The level of the tests after each round."""
        return levels_of([stage.trains for stage in self.stages])

    def left_s(self, at_s: float, finalists: Sequence[Entrant]) -> float:
        """Return the seconds that are left for rounds at a time of the race, if each finalist has one seed."""
        return self.limit_s - self.kept_s - at_s - self.costs.end_s(finalists)


def run_race(race: Race) -> list[Entrant]:
    """Carry out all rounds, or those that are left after an interruption; return the finalists, the best on val first.

    The test split is not read.
    """
    for index, stage in enumerate(race.stages):
        entering = [entrant for entrant in race.ledger.entrants if entrant.entered(index)]
        # By the scores before this round: after an interruption, some have one of this round already.
        before = {entrant.number: entrant for entrant in _before(race, index)}
        entering.sort(key=lambda entrant: _rank(before[entrant.number]))
        if all(entrant.scored(index) is None for entrant in entering):
            LOGGER.info("round %d of %d: %s, %d candidates", index + 1, len(race.stages), stage, len(entering))
        _train(race, index, entering)
        _leave_if_worse(race, index)
    last = len(race.stages) - 1
    ranked = sorted([entrant for entrant in race.ledger.entrants if entrant.left is None], key=_rank)
    for entrant in ranked[race.finalists :]:
        race.ledger.leave(entrant.number, Departure(reason="budget", round=last, text="behind the finalists on val"))
    return ranked[: race.finalists]


def _rank(entrant: Entrant) -> tuple[float, float]:
    """Return what candidates are ordered by: the most accurate in its last round first; before any, the cheapest."""
    return (-entrant.last.val_top1_accuracy if entrant.last else 0.0), entrant.forward_s


def _train(race: Race, index: int, entering: Sequence[Entrant]) -> None:
    """Train the form of a round of all candidates that fit into the time; the others leave by budget."""
    for form, result, seconds in race.crew(_fitting(race, index, entering)):
        if result.error is not None:
            LOGGER.warning("  %s failed: %s", race.ledger.entrants[form.number].name, result.error)
            race.ledger.leave(form.number, Departure(reason="failed", round=index, text=result.error))
            continue
        accuracy = float(unpacked(result.right, race.val_images).mean())
        scored = Scored(round=index, val_top1_accuracy=accuracy, right=result.right, seconds=seconds, at_s=race.clock())
        race.ledger.score(form.number, scored)
        name = race.ledger.entrants[form.number].name
        LOGGER.info("  %s: val %.1f %%, %.0f s", name, 100 * accuracy, seconds)


def _fitting(race: Race, index: int, entering: Sequence[Entrant]) -> Iterator[FormTask]:
    """Yield the forms of a round that fit into its time; each is decided when it could begin."""
    part = _part_of(race, index, entering)
    for entrant in entering:
        # After an interruption, some have finished this round or failed in it.
        if entrant.scored(index) is not None or entrant.left is not None:
            continue
        stage_s = race.costs.stage_s(entrant, index, race.ledger.entrants) / race.crew_size
        # Every candidate is in the first round: the minutes were checked for that.
        if index > 0 and entrant.number != part.secured and race.clock() + stage_s > part.until_s:
            text = f"no time for {race.stages[index]}"
            race.ledger.leave(entrant.number, Departure(reason="budget", round=index - 1, text=text))
            continue
        yield FormTask(number=entrant.number, task=race.tasks[entrant.number], stage=race.stages[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """The time of a round: trainings that end until ``until_s`` fit into it, and the one that is ``secured`` always."""

    until_s: float
    secured: int | None


def _part_of(race: Race, index: int, entering: Sequence[Entrant]) -> _Part:
    """Return the time of a round: a part of what is left, less what it takes to complete the secured candidate.

    That is the first one whose training can be completed in time. It depends only on what was known when the round
    began, so that a race that was interrupted divides its time as it would have done.
    """
    known = _before(race, index)
    began_s = max((entrant.last.at_s for entrant in known if entrant.last), default=race.clock())
    left_s = race.left_s(began_s, entering[: race.finalists])
    rest_s = {entrant.number: race.costs.rest_s(entrant, index, known) / race.crew_size for entrant in entering}
    completable = [entrant for entrant in entering if rest_s[entrant.number] <= left_s]
    # A race has a result: where no training can be completed in time, the one that takes least is.
    secured = completable[0] if completable else min(entering, key=lambda entrant: rest_s[entrant.number], default=None)
    aside_s = 0.0 if secured is None else race.costs.rest_s(secured, index + 1, known) / race.crew_size
    part = LAST_PART if index == len(race.stages) - 1 else NEXT_PART
    return _Part(
        until_s=began_s + part * max(left_s - aside_s, 0.0), secured=None if secured is None else secured.number
    )


def _before(race: Race, index: int) -> list[Entrant]:
    """Return all candidates as they were when a round began."""
    return [
        replace(entrant, scores=tuple(score for score in entrant.scores if score.round < index))
        for entrant in race.ledger.entrants
    ]


def _leave_if_worse(race: Race, index: int) -> None:
    numbers, right = scores_of(race, index)
    worse = significantly_worse(right, race.val_groups, race.levels[index]) if numbers else np.zeros(0, dtype=bool)
    for number, is_worse in zip(numbers, worse, strict=True):
        # After an interruption, some of them have left already.
        if is_worse and race.ledger.entrants[number].left is None:
            text = f"significantly worse than another candidate as {race.stages[index]}"
            race.ledger.leave(number, Departure(reason="significantly worse", round=index, text=text))


def scores_of(race: Race, index: int) -> tuple[list[int], Right]:
    """Return the numbers of the candidates that finished a round, and which val images each classifies correctly."""
    scored = [(entrant.number, entrant.scored(index)) for entrant in race.ledger.entrants]
    numbers = [number for number, score in scored if score is not None]
    rows = [unpacked(score.right, race.val_images) for _, score in scored if score is not None]
    return numbers, np.array(rows, dtype=bool).reshape(len(rows), race.val_images)


def probability_missed(race: Race) -> float:
    """Return the probability that a candidate that left by budget would have been the best after the last round."""
    rounds = []
    for index in range(len(race.stages)):
        numbers, right = scores_of(race, index)
        rounds.append(RoundScores(candidates=tuple(numbers), right=right))
    left_after = {
        entrant.number: entrant.left.round
        for entrant in race.ledger.entrants
        if entrant.left is not None and entrant.left.reason == "budget" and entrant.left.round is not None
    }
    return best_left_by_budget(rounds, left_after, race.val_groups)
