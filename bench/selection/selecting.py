"""A selection from its plan to its table: latency, the race, the runs of the finalists, and the record of it all."""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from optuna.storages import RDBStorage

from bench.harness import Finished, Planner, carry_out
from bench.processes.forking import ForkServer
from bench.records import locks
from bench.records.schema import Finalist, RaceRound, RunRecord, Selection
from bench.records.store import read_if_whole, write_with_digest
from bench.runs.artifacts import whole_outcome
from bench.runs.execution import prepare
from bench.runs.local import Train
from bench.runs.plan import Task, record_file
from bench.selection import study
from bench.selection.crews.here import export_here
from bench.selection.forms import Stage
from bench.selection.pages import document
from bench.selection.racing import Crew, Race, probability_missed, run_race
from bench.selection.records import RACE_VERSION, Entrant, Ledger, RaceRecord, write_race
from bench.selection.schedule import MEASURE_S, PAGE_S, START_S, Costs, Images, stages_of
from bench.selection.screening import leave_by_latency, screen
from bench.selection.worker import WORKER
from bench.stats.groups import Groups, meaningful, number_of
from bench.stats.races.departures import least_groups, levels_of
from bench.tuning import storage
from imgcls.config import Device
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)

TUNE_PART: Final = 0.25
"""Part of the minutes for a study of the best finalist."""

MAX_SEEDS: Final = 5
"""Seeds of a finalist at most; from five on, a table's conclusions hold for models."""

SCREEN_S: Final = 4.0
"""Least seconds in which a network is exported and measured, where it has not been screened before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the user asked for: minutes, finalists, and a limit of p90 latency in ms, None: no limit.

    ``since`` is when the command began, in seconds since 1970.
    """

    minutes: float
    finalists: int
    limit_ms: float | None
    runtime: str
    tune: bool
    command: str
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Hands:
    """Who plans and trains: the planner, the trainer of runs, the crew of forms, and how many it trains at a time."""

    plan: Planner
    train: Train
    crew: Callable[[Device], AbstractContextManager[Crew]]
    jobs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A finished selection: its record and page, the table, and the runs of the finalists, that of the best one first.

    ``tune_s`` is the time that is left for a study of the best finalist.
    """

    record: RaceRecord
    page: Path
    finished: Finished
    runs: tuple[Task, ...]
    tune_s: float


@dataclass(kw_only=True, slots=True)
class _Clock:
    """The seconds of a selection: of this command, and of those before an interruption."""

    before_s: float
    since: float

    def __call__(self) -> float:
        return self.before_s + time.time() - self.since


@dataclass(frozen=True, kw_only=True, slots=True)
class Val:
    """The images of val that candidates are compared on, and the group of each; None: all are independent."""

    images: int
    groups: Groups | None

    @property
    def independent(self) -> int:
        """Number of independent images."""
        return number_of(self.groups, self.images)


def check(tasks: Sequence[Task], wish: Wish) -> Val:
    """Return the val split; raises ConfigError if it can show nothing, or if the minutes cannot suffice.

    Nothing is written but to the cache.
    """
    _require_minutes(60 * wish.minutes, (SCREEN_S + START_S) * len(tasks), wish)
    with locks.machine_shared(purpose="prepare the images"):
        groups = meaningful(prepare(tasks[0]).groups("val"))
    val = Val(images=sum(tasks[0].dataset.counts["val"]), groups=groups)
    level = _level(stages_of(tasks[0].config.train.epochs))
    if val.independent < (least := least_groups(level, 2)):
        message = (
            f"val has {val.independent} independent images, of which one is {100 / max(val.independent, 1):.0f} pp: no "
            f"difference between two candidates is significant with fewer than {least}; use more photos"
        )
        raise ConfigError(message)
    if val.independent < (needed := least_groups(level, len(tasks))):
        LOGGER.warning(
            "val has %d independent images: while all %d candidates take part, none can be significantly worse with "
            "fewer than %d, so that they leave by budget only",
            *(val.independent, len(tasks), needed),
        )
    return val


def _level(stages: Sequence[Stage]) -> float:
    return max(levels_of([stage.trains for stage in stages]))


def select(tasks: Sequence[Task], val: Val, wish: Wish, hands: Hands, store: RDBStorage) -> Selected:
    """Carry out a selection, or what is left of it after an interruption; ``tasks`` are the candidates' runs.

    Raises ConfigError if the minutes do not suffice, or if no candidate meets the limit.
    """
    limit_s, stages = 60 * wish.minutes, stages_of(tasks[0].config.train.epochs)
    settings = {"minutes": wish.minutes, "finalists": wish.finalists, "limit_ms": wish.limit_ms}
    joined = study.join(store, tasks, settings=settings | {"runtime": wish.runtime, "tune": wish.tune})
    with contextlib.ExitStack() as alone:
        alone.enter_context(locks.training_lock(tasks[0].paths.results, joined.name))
        if store.engine.dialect.name != "sqlite":
            # Commands with other results folders may use the same server.
            alone.enter_context(storage.locked(store, f"race {joined.name}"))
        clock = _Clock(before_s=joined.spent_s, since=wish.since)
        images = Images(**{name: sum(counts) for name, counts in tasks[0].dataset.counts.items()})
        costs = Costs(stages=stages, images=images, prefit=tasks[0].config.train.tune_layers == "head-then-all")
        entrants = joined.entrants() or _screened(tasks, wish, joined, clock)
        running = [entrant for entrant in entrants if entrant.left is None or entrant.scores]
        _require_minutes(limit_s, joined.screened_s + costs.least_s(running), wish)

        def keep(entrant: Entrant) -> None:
            joined.keep(entrant)
            joined.spend(clock())

        with hands.crew(tasks[0].config.train.device) as crew:
            race = Race(
                ledger=Ledger(entrants, keep),
                tasks=dict(enumerate(tasks)),
                stages=stages,
                costs=costs,
                crew=crew,
                val_images=val.images,
                val_groups=val.groups,
                finalists=wish.finalists,
                limit_s=limit_s,
                kept_s=TUNE_PART * limit_s if wish.tune else 0.0,
                crew_size=hands.jobs,
                clock=clock,
            )
            finalists = run_race(race)
        if not finalists:
            raise ConfigError(Setting("candidates"), ": every candidate has failed; see the reasons above")
        joined.spend(clock())
        return _finals(race, finalists, joined, wish, hands)


def _require_minutes(limit_s: float, least_s: float, wish: Wish) -> None:
    """Raise ConfigError if the minutes do not suffice for a first round of all candidates and one finalist."""
    if limit_s < least_s:
        least = math.ceil(least_s / 60 / (1 - TUNE_PART if wish.tune else 1.0))
        reason = ": too few for a first round of all candidates and one finalist; use at least "
        raise ConfigError(Setting("minutes", wish.minutes), reason, Setting("minutes", least), ", or fewer candidates")


def _screened(tasks: Sequence[Task], wish: Wish, joined: study.RaceStudy, clock: _Clock) -> list[Entrant]:
    """Return the candidates with their costs and latencies, of which some have left already, and keep them."""
    named = [
        Entrant(number=number, model=task.config.model, image_size=task.spec.resize.size)
        for number, task in enumerate(tasks)
    ]
    with closing(ForkServer(WORKER)) as server:
        threads = tasks[0].config.runtime.threads
        entrants = screen(
            named, tasks, runtime=wish.runtime, threads=threads, export=lambda task: export_here(task, server)
        )
    if wish.limit_ms is not None:
        entrants = leave_by_latency(entrants, wish.limit_ms)
    for entrant in entrants:
        if entrant.left is not None:
            LOGGER.info("  %s: %s (%s)", entrant.name, entrant.left.reason, entrant.left.text)
        joined.keep(entrant)
    joined.screened(clock())
    return entrants


def _finals(race: Race, finalists: list[Entrant], joined: study.RaceStudy, wish: Wish, hands: Hands) -> Selected:
    """Train the finalists with the seeds that fit, score them on test, measure them, and write the page."""
    names = ", ".join(entrant.name for entrant in finalists)
    LOGGER.info("finalists: %s", names)
    _discard(race, finalists)
    runs = [race.tasks[entrant.number] for entrant in finalists]
    tasks = [hands.plan(replace(task.config, seed=seed)) for seed in range(_seeds(race, finalists)) for task in runs]
    selection = _selection(race, finalists, joined, wish)
    began_s = race.clock()

    def train(tasks: Sequence[Task]) -> list[RunRecord]:
        return [_stamped(record, task, selection) for record, task in zip(hands.train(tasks), tasks, strict=True)]

    finished = carry_out(tasks, train)
    joined.complete(race.ledger.entrants)
    joined.spend(race.clock())
    environment = runs[0].environment
    record = RaceRecord(
        race_version=RACE_VERSION,
        selection=selection,
        dataset=runs[0].dataset.name,
        recipe=runs[0].config.recipe,
        machine=environment.machine,
        git_commit=environment.git_commit,
        command=wish.command,
        entrants=race.ledger.entrants,
        finals_s=round(race.clock() - began_s, 1),
    )
    write_race(record, runs[0].paths.results)
    page = document.write(record, finished.table, runs[0].paths.results)
    # The best setting is trained once more, as a run.
    tune_s = race.limit_s - race.clock() - race.costs.seed_s(finalists[0], race.ledger.entrants) - MEASURE_S - PAGE_S
    return Selected(record=record, page=page, finished=finished, runs=tuple(tasks), tune_s=tune_s)


def _seeds(race: Race, finalists: Sequence[Entrant]) -> int:
    """Return how many seeds of each finalist fit into the rest of the time; the first one has been trained."""
    known = race.ledger.entrants
    left_s = race.limit_s - race.kept_s - race.clock() - race.costs.end_s(finalists)
    further = math.floor(left_s / sum(race.costs.seed_s(entrant, known) for entrant in finalists))
    return 1 + min(max(further, 0), MAX_SEEDS - 1)


def _discard(race: Race, finalists: Sequence[Entrant]) -> None:
    """Delete the states of trainings that are not continued; those of finished runs stay."""
    kept = {entrant.number for entrant in finalists}
    for number, task in race.tasks.items():
        if number not in kept and whole_outcome(task.paths, task.train_id) is None:
            shutil.rmtree(task.paths.artifacts(task.train_id), ignore_errors=True)
            task.paths.state(task.run_id).unlink(missing_ok=True)


def _stamped(record: RunRecord, task: Task, selection: Selection) -> RunRecord:
    """Return the record of a run with its race, also in its file."""
    with locks.record_lock(task.paths.results, task.run_id):
        stored = read_if_whole(record_file(task)) or record
        if stored.selection != selection:
            write_with_digest(replace(stored, selection=selection), record_file(task))
    return replace(record, selection=selection)


def _selection(race: Race, finalists: Sequence[Entrant], joined: study.RaceStudy, wish: Wish) -> Selection:
    entrants = race.ledger.entrants
    before = [entrant.left.reason for entrant in entrants if entrant.left and entrant.left.round is None]
    return Selection(
        name=joined.name,
        minutes=wish.minutes,
        candidates=len(entrants),
        limit_ms=wish.limit_ms,
        runtime=wish.runtime,
        by_latency=before.count("latency"),
        failed=before.count("failed"),
        screening_s=round(joined.screened_s, 1),
        rounds=tuple(_rounds(race, joined.screened_s)),
        val_images=race.val_images,
        val_groups=number_of(race.val_groups, race.val_images),
        least_groups=least_groups(_level(race.stages), 2),
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
        )
        began_s = ended_s
