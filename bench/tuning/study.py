"""Run a study: find or create it, start its worker processes, log the progress, and write the record at the end."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.storages import RDBStorage

from bench.processes.starting import end, relay, shared_out, start
from bench.runs.plan import Task, write_task
from bench.tuning import storage
from bench.tuning.conversion import records
from bench.tuning.records import (
    ENDED,
    SWEEP_VERSION,
    Origin,
    StudyRecord,
    SweepBudget,
    TrialRecord,
    base_name,
    differences,
    identity,
    read_study,
    study_file,
    write_study,
)
from bench.tuning.search import POLL_S, SweepTask, leave_best_only, rungs_of, spent
from bench.tuning.space import Space, Values, defaults
from bench.tuning.view import StudyProgress
from bench.tuning.worker import WORKER
from imgcls.errors import ConfigError

if TYPE_CHECKING:
    import subprocess

LOGGER = logging.getLogger(__name__)

DEATHS_IN_A_ROW: Final = 3
"""No worker is restarted after this many were killed without a trial ending in between."""


def origin(task: Task) -> Origin:
    """Return the initialisation of a task's model."""
    return task.spec.timm_name, task.spec.weights.init, task.spec.weights.sha256


def plan_study(  # noqa: PLR0913 - a study consists of these
    task: Task, search: Space, budget: SweepBudget, *, url: str, store: RDBStorage, force_new: bool
) -> SweepTask:
    """Join the study of this task, or create it; raises ConfigError if its name belongs to a different study."""
    base = task.config
    same = identity(base, search, task.dataset, origin(task))
    name = join(store, base_name(base), same, defaults(base, search), force_new=force_new)
    return SweepTask(task=task, name=name, url=url, space=search, budget=budget)


Show = Callable[[], int]
"""Logs the progress of a study, and returns the number of ended trials."""

Workers = Callable[[SweepTask, Show], None]
"""Runs trials until the budget is spent, and calls ``Show`` about once a second."""


def carry_out(sweep: SweepTask, *, store: RDBStorage, jobs: int, workers: Workers, since: float) -> StudyRecord | None:
    """Run a study until its budget is spent, log its progress, and write its record.

    ``since`` is the start of the command, or of its part for this study, in seconds since 1970. Returns None if the
    workers stopped before the budget was spent; the same command then continues the study.
    """
    study = optuna.load_study(study_name=sweep.name, storage=store)
    before = {trial.number for trial in records(study) if trial.state in ENDED}
    logged: set[int] = set()

    def show() -> int:
        trials = records(study)
        ended = {trial.number for trial in trials if trial.state in ENDED}
        new = tuple(sorted(ended - logged))
        logged.update(new)
        progress = StudyProgress(name=sweep.name, budget=sweep.budget, trials=tuple(trials), jobs=jobs, new=new)
        # Without a newly ended trial, the event has no line, and only a terminal redraws its table.
        LOGGER.log(logging.INFO if new else logging.DEBUG, progress)
        return len(ended)

    workers(sweep, show)
    # Once more: the last trials may have ended after the last call by the workers.
    show()
    trials = records(study)
    if not spent(sweep.budget, trials):
        return None
    return finish(sweep, trials, jobs=jobs, before=before, command_s=time.time() - since)


def processes(sweep: SweepTask, show: Show, *, jobs: int) -> None:
    """Run trials in ``jobs`` processes on this machine, each on a GPU of its own if there are enough.

    A process that is killed is replaced.
    """
    # Processes and not threads: the out-of-memory killer then ends one trial, and not the command.
    file = sweep.task.paths.task(sweep.name)
    write_task(sweep, file)
    command = [WORKER, "sweep", str(file)]
    train = sweep.task.config.train

    def begin(device: str | None) -> "tuple[subprocess.Popen[bytes], str | None]":
        return _begin(command, train.train_threads, device), device

    children = [begin(device) for device in shared_out(jobs, train.device)]
    deaths, ended = 0, show()
    try:
        while children:
            time.sleep(POLL_S)
            now = show()
            deaths, ended = (0 if now > ended else deaths), now
            # Negative is a signal. A worker with a positive status has logged its error, and would fail again.
            killed = [device for child, device in children if (child.poll() or 0) < 0]
            deaths += len(killed)
            children = [(child, device) for child, device in children if child.poll() is None]
            if deaths < DEATHS_IN_A_ROW:
                children += [begin(device) for device in killed]
    finally:
        for child, _ in children:
            end(child)
        file.unlink(missing_ok=True)


def _begin(command: list[str], threads: int, device: str | None) -> "subprocess.Popen[bytes]":
    child = start(command, threads=threads, device=device)
    # Its output must be read, or the pipe fills and the child stops.
    threading.Thread(target=_relayed, args=(child,), daemon=True).start()
    return child


def _relayed(child: "subprocess.Popen[bytes]") -> None:
    # As a context, which closes its pipes: a notebook or a test carries out more than one study.
    with child:
        assert child.stdout is not None
        relay(child.stdout)


def finish(
    sweep: SweepTask, trials: list[TrialRecord], *, jobs: int, before: set[int], command_s: float
) -> StudyRecord:
    """Write the record of a study, and delete the weights of all trials but the best.

    ``before`` are the trials that had ended when the command began. If no other one has, the record stays as it is.
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
    # A command that finds the budget spent must not replace the times of the command that ran the trials.
    if not ours:
        with contextlib.suppress(OSError, ValueError):
            record = read_study(study_file(task.paths.results, sweep.name))
    write_study(record, task.paths.results)
    leave_best_only(task.paths.results, sweep.name, trials)
    return record


def join(store: RDBStorage, name: str, identity: dict[str, Any], first: Values, *, force_new: bool) -> str:
    """Return the name of the study with this identity; create it, with the default setting as first trial, if needed.

    Raises ConfigError if the name belongs to a study with a different identity, unless ``force_new``.
    """
    # Locked, so that commands that start at the same time do not create the study twice.
    with storage.locked(store, name):
        taken = [other for other in optuna.get_all_study_names(store) if _is_version(other, name)]
        identities = {other: _identity(store, other) for other in taken}
        for other, theirs in identities.items():
            # None: created by a command that was killed before it stored the identity.
            if theirs in (identity, None):
                return _make(store, other, identity, first)
        if identities and not force_new:
            unlike = ", ".join(differences(identity, identities[taken[0]] or {}))
            message = f"study {taken[0]} differs in {unlike}; --force-new starts a new study beside it"
            raise ConfigError(message)
        return _make(store, f"{name}-{len(taken) + 1}" if taken else name, identity, first)


def _is_version(other: str, name: str) -> bool:
    # The name itself or with a number: another model's or recipe's name may start with this one.
    rest = other.removeprefix(name)
    return other.startswith(name) and (not rest or (rest[0] == "-" and rest[1:].isdigit()))


def _identity(store: RDBStorage, name: str) -> dict[str, Any] | None:
    """Return the stored identity of a study; None if its creation was interrupted, {} if it is not of this program."""
    study = optuna.load_study(study_name=name, storage=store)
    nothing: dict[str, Any] = {}
    identity: dict[str, Any] | None = study.user_attrs.get("identity", nothing if study.trials else None)
    return identity


def _make(store: RDBStorage, name: str, identity: dict[str, Any], first: Values) -> str:
    # Each step is skipped if it has been done, so that an interrupted creation is completed.
    study = optuna.create_study(study_name=name, storage=store, direction="maximize", load_if_exists=True)
    if "identity" not in study.user_attrs:
        study.set_user_attr("identity", identity)
    if not study.trials:
        study.enqueue_trial(dict(first), user_attrs={"default": True})
    return name
