"""A selection from its plan to its table: latency, the race, the runs of the finalists, and the record of it all."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from optuna.storages import RDBStorage

from bench.harness import Finished, Planner, carry_out
from bench.processes.forking import ForkServer
from bench.records import locks
from bench.runs.execution import prepare
from bench.runs.local import Train
from bench.runs.plan import Task
from bench.selection import study
from bench.selection.crews.here import export_here
from bench.selection.finals import runs_of, seeds_of, selection_of, stamping
from bench.selection.forms import Stage
from bench.selection.latency.screening import screen
from bench.selection.pages import document
from bench.selection.racing import Crew, Race, run_race
from bench.selection.records import RACE_VERSION, Entrant, Ledger, RaceRecord, kept_or_written
from bench.selection.schedule import MEASURE_S, PAGE_S, START_S, Costs, Images, stages_of
from bench.selection.worker import WORKER
from bench.stats.groups import Groups, meaningful, number_of
from bench.stats.races.departures import least_groups, levels_of
from bench.tuning import storage
from imgcls.config import Device, RuntimeConfig
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)

TUNE_PART: Final = 0.25
"""Part of the minutes for a study of the best finalist."""

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

    @property
    def race_s(self) -> float:
        """Seconds from the start to the table; the rest is for tuning."""
        return 60 * self.minutes * (1 - TUNE_PART if self.tune else 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hands:
    """Who plans and trains: the planner, the trainer of runs, the crew of forms, and how many it trains at a time."""

    plan: Planner
    train: Train
    crew: Callable[[Device], AbstractContextManager[Crew]]
    jobs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Selected:
    """A finished selection: its page, the table, and the runs of the finalists, that of the best one first.

    ``tune_s`` is the time that is left for a study of the best finalist.
    """

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
    _require_minutes((SCREEN_S + START_S) * len(tasks), wish)
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
    settings = {"minutes": wish.minutes, "finalists": wish.finalists, "limit_ms": wish.limit_ms}
    joined = study.join(store, tasks, settings=settings | {"runtime": wish.runtime, "tune": wish.tune})
    with contextlib.ExitStack() as alone:
        alone.enter_context(locks.training_lock(tasks[0].paths.results, joined.name))
        if store.engine.dialect.name != "sqlite":
            # Commands with other results folders may use the same server.
            alone.enter_context(storage.locked(store, f"race {joined.name}"))
        # Once the lock is held: another command may have carried the race on meanwhile.
        clock = _Clock(before_s=joined.spent_s, since=wish.since)
        entrants = joined.entrants() or _screened(tasks, wish, joined, clock)
        with hands.crew(tasks[0].config.train.device) as crew:
            race = _race(tasks, val, wish, entrants, joined=joined, crew=crew, jobs=hands.jobs, clock=clock)
            running = [entrant for entrant in entrants if entrant.left is None or entrant.scores]
            _require_minutes(joined.screened_s + race.costs.least_s(running), wish)
            finalists = run_race(race)
        if not finalists:
            raise ConfigError(Setting("candidates"), ": every candidate has failed; see the reasons above")
        return _finals(race, finalists, joined, wish, hands)


def _race(  # noqa: PLR0913 - what a race consists of
    tasks: Sequence[Task],
    val: Val,
    wish: Wish,
    entrants: Sequence[Entrant],
    *,
    joined: study.RaceStudy,
    crew: Crew,
    jobs: int,
    clock: _Clock,
) -> Race:
    """Return a race whose candidates and time are kept in its study."""

    def keep(entrant: Entrant) -> None:
        joined.keep(entrant)
        joined.spend(clock())

    train, stages = tasks[0].config.train, stages_of(tasks[0].config.train.epochs)
    images = Images(**{name: sum(counts) for name, counts in tasks[0].dataset.counts.items()})
    limit_s = 60 * wish.minutes
    return Race(
        ledger=Ledger(entrants, keep),
        tasks=dict(enumerate(tasks)),
        stages=stages,
        costs=Costs(stages=stages, images=images, prefit=train.tune_layers == "head-then-all"),
        crew=crew,
        val_images=val.images,
        val_groups=val.groups,
        finalists=wish.finalists,
        limit_s=limit_s,
        kept_s=limit_s - wish.race_s,
        crew_size=jobs,
        clock=clock,
    )


def _require_minutes(least_s: float, wish: Wish) -> None:
    """Raise ConfigError if the minutes do not suffice for a first round of all candidates and one finalist."""
    if wish.race_s < least_s:
        given = int(wish.minutes) if wish.minutes.is_integer() else wish.minutes
        least = math.ceil(wish.minutes * least_s / wish.race_s)
        reason = ": too few for a first round of all candidates and one finalist; use at least "
        raise ConfigError(Setting("minutes", given), reason, Setting("minutes", least), ", or fewer candidates")


def _screened(tasks: Sequence[Task], wish: Wish, joined: study.RaceStudy, clock: _Clock) -> list[Entrant]:
    """Return the candidates with their costs and latencies, of which some have left already, and keep them."""
    named = [
        Entrant(number=number, model=task.config.model, image_size=task.spec.resize.size)
        for number, task in enumerate(tasks)
    ]
    config = RuntimeConfig(runtimes=(wish.runtime,), threads=tasks[0].config.runtime.threads)
    with closing(ForkServer(WORKER)) as server:
        export = partial(export_here, server=server)
        entrants = screen(named, tasks, config, export=export, limit_ms=wish.limit_ms)
    for entrant in entrants:
        if entrant.left is not None:
            LOGGER.info("  %s: %s (%s)", entrant.name, entrant.left.reason, entrant.left.text)
        joined.keep(entrant)
    joined.screened(clock())
    return entrants


def _finals(race: Race, finalists: list[Entrant], joined: study.RaceStudy, wish: Wish, hands: Hands) -> Selected:
    """Train the finalists with the seeds that fit, score them on test, measure them, and write the page."""
    LOGGER.info("finalists: %s", ", ".join(entrant.name for entrant in finalists))
    seeds, began_s = joined.finals(seeds_of(race, finalists), race.clock())
    tasks = runs_of(race, finalists, seeds, hands.plan)
    selection = selection_of(
        race,
        finalists,
        name=joined.name,
        minutes=wish.minutes,
        limit_ms=wish.limit_ms,
        runtime=wish.runtime,
        screened_s=joined.screened_s,
    )
    finished = carry_out(tasks, stamping(hands.train, selection))
    joined.complete(race.ledger.entrants)
    joined.spend(race.clock())
    first = tasks[0]
    record = RaceRecord(
        race_version=RACE_VERSION,
        selection=selection,
        dataset=first.dataset.name,
        recipe=first.config.recipe,
        machine=first.environment.machine,
        git_commit=first.environment.git_commit,
        command=wish.command,
        entrants=race.ledger.entrants,
        finals_s=round(race.clock() - began_s, 1),
    )
    record = kept_or_written(record, first.paths.results)
    page = document.write(record, finished.table, first.paths.results)
    # The best setting is trained once more, as a run.
    tune_s = race.limit_s - race.clock() - race.costs.seed_s(finalists[0], race.ledger.entrants) - MEASURE_S - PAGE_S
    return Selected(page=page, finished=finished, runs=tuple(tasks), tune_s=tune_s)
