"""The end of a selection: the runs of the finalists, with the seeds that fit, and the record of the race."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from bench.harness import Planner
from bench.records import locks
from bench.records.schema import Finalist, RaceRound, RunRecord, Selection
from bench.records.store import read_if_whole, write_with_digest
from bench.runs.artifacts import whole_outcome
from bench.runs.local import Train
from bench.runs.plan import Task, record_file
from bench.selection.racing import Race, probability_missed
from bench.selection.records import Entrant
from bench.stats.groups import number_of
from bench.stats.races.departures import least_groups

MAX_SEEDS: Final = 5
"""Seeds of a finalist at most; from five on, a table's conclusions hold for models."""


def seeds_of(race: Race, finalists: Sequence[Entrant]) -> int:
    """Return how many seeds of each finalist fit into the rest of the time; the first one has been trained."""
    known = race.ledger.entrants
    left_s = race.limit_s - race.kept_s - race.clock() - race.costs.end_s(finalists)
    further = math.floor(left_s / sum(race.costs.seed_s(entrant, known) for entrant in finalists))
    return 1 + min(max(further, 0), MAX_SEEDS - 1)


def runs_of(race: Race, finalists: Sequence[Entrant], seeds: int, plan: Planner) -> list[Task]:
    """Return the runs of the finalists, those with seed 0 first; nothing of another candidate is left over."""
    kept = {entrant.number for entrant in finalists}
    for number, task in race.tasks.items():
        # A finished run of another command stays.
        if number not in kept and whole_outcome(task.paths, task.train_id) is None:
            shutil.rmtree(task.paths.artifacts(task.train_id), ignore_errors=True)
            task.paths.state(task.run_id).unlink(missing_ok=True)
    first = [race.tasks[entrant.number] for entrant in finalists]
    return [plan(replace(task.config, seed=seed)) for seed in range(seeds) for task in first]


def stamping(train: Train, selection: Selection) -> Train:
    """Return a trainer that also writes the race into the records of its runs."""

    def stamped(tasks: Sequence[Task]) -> list[RunRecord]:
        return [_stamped(record, task, selection) for record, task in zip(train(tasks), tasks, strict=True)]

    return stamped


def _stamped(record: RunRecord, task: Task, selection: Selection) -> RunRecord:
    with locks.record_lock(task.paths.results, task.run_id):
        stored = read_if_whole(record_file(task)) or record
        if stored.selection != selection:
            write_with_digest(replace(stored, selection=selection), record_file(task))
    return replace(record, selection=selection)


def selection_of(  # noqa: PLR0913 - what the race itself does not know
    race: Race,
    finalists: Sequence[Entrant],
    *,
    name: str,
    minutes: float,
    limit_ms: float | None,
    runtime: str,
    screened_s: float,
) -> Selection:
    """Return the summary of a race that has ended."""
    entrants = race.ledger.entrants
    before = [entrant.left.reason for entrant in entrants if entrant.left and entrant.left.round is None]
    return Selection(
        name=name,
        minutes=minutes,
        candidates=len(entrants),
        limit_ms=limit_ms,
        runtime=runtime,
        by_latency=before.count("latency"),
        failed=before.count("failed"),
        screening_s=round(screened_s, 1),
        rounds=tuple(_rounds(race, screened_s)),
        val_images=race.val_images,
        val_groups=number_of(race.val_groups, race.val_images),
        missed=probability_missed(race),
        finalists=tuple(Finalist(model=entrant.model, image_size=entrant.image_size) for entrant in finalists),
    )


def _rounds(race: Race, began_s: float) -> Iterator[RaceRound]:
    for index, (stage, level) in enumerate(zip(race.stages, race.levels, strict=True)):
        scored = [score for entrant in race.ledger.entrants if (score := entrant.scored(index)) is not None]
        left = [
            entrant.left.reason
            for entrant in race.ledger.entrants
            if entrant.left is not None and entrant.left.round == index
        ]
        ended_s = max((score.at_s for score in scored), default=began_s)
        yield RaceRound(
            name=str(stage),
            candidates=len(scored),
            failed=left.count("failed"),
            worse=left.count("significantly worse"),
            by_budget=left.count("budget"),
            seconds=round(ended_s - began_s, 1),
            level=level,
            least_groups=least_groups(level, len(scored)) if level and len(scored) > 1 else None,
        )
        began_s = ended_s
