"""Carry out a study: its processes, what is shown while they work, and the record at the end."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Final

import optuna
from optuna.storages import RDBStorage
from rich.console import Console

from bench import launchers, sweep_report, sweep_view
from bench.joining import join
from bench.plan import Task, write_task
from bench.space import Space, defaults
from bench.sweep import POLL_S, SweepTask, leave_best_only, rungs_of, spent
from bench.trials import records
from bench.tuning import (
    ENDED,
    SWEEP_VERSION,
    Origin,
    StudyRecord,
    SweepBudget,
    TrialRecord,
    base_name,
    identity,
    read_study,
    study_file,
    write_study,
)

DEATHS_IN_A_ROW: Final = 3
"""After so many processes killed without a trial ended in between, the command gives up."""


def origin(task: Task) -> Origin:
    """Say what a task's model starts from."""
    return task.spec.timm_name, task.spec.weights.init, task.spec.weights.sha256


def plan_study(  # noqa: PLR0913 - a study is made of these
    task: Task, search: Space, budget: SweepBudget, *, url: str, store: RDBStorage, force_new: bool
) -> SweepTask:
    """Join the study of this task, or make it; raises ConfigError where its name is taken by another."""
    base = task.config
    same = identity(base, search, task.dataset, origin(task))
    name = join(store, base_name(base), same, defaults(base, search), force_new=force_new)
    return SweepTask(task=task, name=name, url=url, space=search, budget=budget)


Show = Callable[[], int]
"""Shows how a study stands, and counts its ended trials."""
Workers = Callable[[SweepTask, Show], None]
"""Carries out trials until the budget is spent, calling ``Show`` about once a second."""


def carry_out(  # noqa: PLR0913 - a study is made of these
    sweep: SweepTask, console: Console, *, store: RDBStorage, jobs: int, workers: Workers, since: float
) -> StudyRecord | None:
    """Run a study to the end of its budget, and write its record and report.

    ``since``: when the command, or its part for this study, began, in seconds of the epoch. None where its workers
    gave up before; the same command goes on with it.
    """
    study = optuna.load_study(study_name=sweep.name, storage=store)
    before = {trial.number for trial in records(study) if trial.state in ENDED}
    with sweep_view.watching(console, sweep.name, sweep.budget, jobs) as update:

        def show() -> int:
            trials = records(study)
            update(trials)
            return sum(trial.state in ENDED for trial in trials)

        workers(sweep, show)
        show()
    trials = records(study)
    if not spent(sweep.budget, trials):
        return None
    return finish(sweep, trials, jobs=jobs, before=before, command_s=time.time() - since)


def processes(sweep: SweepTask, show: Show, *, jobs: int) -> None:
    """Carry out trials in ``jobs`` processes here; one that is killed is started again."""
    file = sweep.task.paths.results / ".locks" / f"{sweep.name}.{os.getpid()}.sweep.json"
    write_task(sweep, file)
    command = ["bench.worker", "sweep", str(file)]
    children = [launchers.start(command) for _ in range(jobs)]
    deaths, ended = 0, show()
    try:
        while children:
            time.sleep(POLL_S)
            now = show()
            deaths, ended = (0 if now > ended else deaths), now
            killed = [child for child in children if (child.poll() or 0) < 0]
            deaths += len(killed)
            children = [child for child in children if child.poll() is None]
            if deaths < DEATHS_IN_A_ROW:
                children += [launchers.start(command) for _ in killed]
    finally:
        for child in children:
            launchers.end(child)
        file.unlink(missing_ok=True)


def finish(
    sweep: SweepTask, trials: list[TrialRecord], *, jobs: int, before: set[int], command_s: float
) -> StudyRecord:
    """Write the record and the report of a study, and tidy up what its trials left.

    A command that had nothing left to do leaves the figures of the one before as they are.
    """
    task = sweep.task
    ours = [trial for trial in trials if trial.number not in before]
    record = StudyRecord(
        sweep_version=SWEEP_VERSION,
        name=sweep.name,
        base=task.config,
        space=sweep.space,
        budget=sweep.budget,
        dataset=task.dataset,
        environment=task.environment,
        origin=origin(task),
        rungs=rungs_of(sweep),
        trials=tuple(trial for trial in trials if trial.state in ENDED),
        jobs=jobs,
        command_s=round(command_s, 1),
        command_train_s=round(sum(trial.train_time_s for trial in ours), 1),
    )
    if not ours:
        with contextlib.suppress(OSError, ValueError):
            record = read_study(study_file(task.paths.results, sweep.name))
    write_study(record, task.paths.results)
    sweep_report.write(record, task.paths.results)
    leave_best_only(task.paths.results, sweep.name, trials)
    return record
