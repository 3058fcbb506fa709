"""An Optuna study over ``fit``: who may start a trial, what it tries, how it ends, and what is kept of it."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import optuna
from optuna import Study, Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials

from bench.config import RunConfig
from bench.records import locks
from bench.records.paths import Paths
from bench.runs.plan import Task
from bench.runs.preparation import prepare
from bench.tuning import space, storage
from bench.tuning.records import ENDED, SweepBudget, TrialRecord, best_trial, config_of
from bench.tuning.space import Space
from bench.tuning.trial import Fitted, OnProgress, TrialProgress, macs_per_image, run_trial, rungs_for
from bench.tuning.trials import records
from imgcls.errors import RunError
from imgcls.files import write_aside
from imgcls.models.building import save_trained

if TYPE_CHECKING:
    from imgcls.data.prepared import Prepared

REDUCTION: Final = 2
"""At each rung the better half goes on (ASHA: Li et al. 2020)."""

FAILURES_IN_A_ROW: Final = 3

POLL_S: Final = 1.0


Evaluate = Callable[[Task, OnProgress], Fitted]
"""Carries out one trial, here or elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTask:
    """A study as its processes get it; ``url`` may hold a password, so this stays out of every record."""

    task: Task
    name: str
    url: str
    space: Space
    budget: SweepBudget


class _Costs:
    """1e12 multiply-adds of training an image of one study, counted once a size: that takes a second."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], float] = {}

    def tmacs_per_image(self, task: Task) -> float:
        key = task.spec.timm_name, task.spec.resize.size
        if key not in self._counted:
            self._counted[key] = 3 * macs_per_image(task.spec, len(task.dataset.class_names)) / 1e12
        return self._counted[key]


def work(sweep: SweepTask, store: RDBStorage, evaluate: Evaluate, *, pruner: BasePruner | None = None) -> None:
    """Carry out trials until the budget is spent and none is left running anywhere.

    Raises RunError where three trials in a row failed since this began: what failed before may have been mended.
    """
    study = optuna.load_study(study_name=sweep.name, storage=store, pruner=pruner or asha())
    costs = _Costs()
    before = {trial.number for trial in records(study) if trial.state in ENDED}
    while True:
        with contextlib.ExitStack() as turn:
            turn.enter_context(storage.locked(store, sweep.name))
            fail_stale_trials(study)
            trials = records(study)
            _stop_after_failures([trial for trial in trials if trial.number not in before])
            if not spent(sweep.budget, trials):
                study.sampler = sampler(sweep.task.config.seed, len(trials))
                _one(study, sweep, evaluate, costs=costs, store=store, turn=turn)
                continue
        if not any(trial.state == "running" for trial in trials):
            return
        time.sleep(POLL_S)


def asha() -> SuccessiveHalvingPruner:
    """Compare trials at equal fractions of their own steps; step ``REDUCTION**i`` stands for rung i."""
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)


def sampler(seed: int, number: int) -> TPESampler:
    """Return the sampler of one trial: drawn from (seed, trial), so that a study taken up again repeats nothing."""
    return TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def _stop_after_failures(trials: Sequence[TrialRecord]) -> None:
    ended = [trial for trial in trials if trial.state in ENDED and not trial.gone]
    last = ended[-FAILURES_IN_A_ROW:]
    if len(last) == FAILURES_IN_A_ROW and all(trial.state == "failed" for trial in last):
        message = f"{FAILURES_IN_A_ROW} trials failed in a row; the last: {last[-1].reason}"
        raise RunError(message)


def spent(budget: SweepBudget, trials: Sequence[TrialRecord]) -> bool:
    """Return whether another trial would be more than was asked for; one that runs counts as done."""
    taken = [trial for trial in trials if trial.state in {"complete", "pruned", "running"}]
    used = [trial for trial in trials if trial.state != "waiting"]
    minutes = sum(trial.trial_time_s for trial in used) / 60
    tmacs = sum(trial.planned_tmacs if trial.state == "running" else trial.tmacs for trial in used)
    limits = ((budget.trials, len(taken)), (budget.minutes, minutes), (budget.tmacs, tmacs))
    return any(limit is not None and value >= limit for limit, value in limits)


def _one(  # noqa: PLR0913 - one of everything that a trial needs
    study: Study,
    sweep: SweepTask,
    evaluate: Evaluate,
    *,
    costs: "_Costs",
    store: RDBStorage,
    turn: contextlib.ExitStack,
) -> None:
    """Run one trial; the lock is freed as soon as its hyperparameters are drawn."""
    started: list[int] = []

    def objective(trial: Trial) -> float:
        started.append(trial.number)
        values = space.suggest(trial, sweep.space)
        turn.close()
        fitted = _attempt(trial, sweep, values, evaluate, costs)
        assert fitted.val_top1_accuracy is not None
        with storage.locked(store, sweep.name):
            _keep_if_best(sweep, records(study), trial.number, fitted)
        return fitted.val_top1_accuracy

    try:
        study.optimize(objective, n_trials=1, catch=(Exception,))
    except (UpdateFinishedTrialError, ValueError):
        if not started or records(study)[started[0]].state != "failed":
            raise
        # others gave this trial up, for it had not been heard of, and one of them tries it again
    with storage.locked(store, sweep.name):
        leave_best_only(sweep.task.paths.results, sweep.name, records(study))


def _attempt(
    trial: Trial, sweep: SweepTask, values: dict[str, space.Value], evaluate: Evaluate, costs: _Costs
) -> Fitted:
    """Fit one setting and note what it cost; raises TrialPruned for one that ends early."""
    is_default = trial.user_attrs.get("default", False)
    task = trial_task(
        sweep, _origin(trial), sweep.task.config if is_default else space.apply(sweep.task.config, values)
    )
    per_image = costs.tmacs_per_image(task)
    whole = per_image * sum(task.dataset.counts["train"]) * task.config.train.epochs
    started = time.perf_counter()

    def note(**attributes: float | str) -> None:
        attributes["trial_time_s"] = round(time.perf_counter() - started, 3)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)

    def on_progress(at: TrialProgress) -> bool:
        note(fraction=at.fraction, tmacs=per_image * at.images, train_time_s=round(at.train_time_s, 3))
        return at.at_rung and _is_behind(trial, at, rungs_of(sweep).index(at.fraction))

    note(planned_tmacs=whole, tmacs=0.0, train_time_s=0.0, fraction=0.0, machine=task.environment.machine)
    try:
        fitted = evaluate(task, on_progress)
    except Exception as error:
        note(reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        raise
    note(tmacs=per_image * fitted.images, train_time_s=round(fitted.train_time_s, 3))
    if fitted.reason is not None:
        note(reason=fitted.reason)
        raise optuna.TrialPruned(fitted.reason)
    return fitted


def rungs_of(sweep: SweepTask) -> tuple[float, ...]:
    """Return the rungs of a study, which its default's epochs decide: they are its longest."""
    return rungs_for(sweep.task.config.train.epochs)


def _is_behind(trial: Trial, at: TrialProgress, rung: int) -> bool:
    """Ask the pruner; the default setting is compared like the others, and goes on whatever it says."""
    trial.report(at.val_top1_accuracy, step=REDUCTION**rung)
    return trial.should_prune() and not trial.user_attrs.get("default", False)


def _origin(trial: Trial) -> int:
    """Return the number under which a trial was first tried: a retry goes on from its last whole epoch."""
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial.study.get_trials(deepcopy=False)[trial.number])
    return trial.number if number is None else number


def trial_task(sweep: SweepTask, number: int, config: RunConfig) -> Task:
    """Return the task of a trial; its files lie apart from those of runs."""
    base = sweep.task
    spec = replace(base.spec, resize=replace(base.spec.resize, size=config.loader.image_size))
    return replace(base, config=config, spec=spec, paths=base.paths.trials, train_id=f"{sweep.name}.trial-{number:05d}")


def weights_folder(results: Path, name: str) -> Path:
    """Return the place of the weights of a study's best trial."""
    return Paths(results=results).artifacts(name)


def _keep_if_best(sweep: SweepTask, trials: Sequence[TrialRecord], number: int, fitted: Fitted) -> None:
    """Write the weights of a trial that is about to be the best; the last best's stay until that is told."""
    best, trial = best_trial(trials), trials[number]
    if best is not None and (best.val_top1_accuracy or 0.0) >= (fitted.val_top1_accuracy or 0.0):
        return
    folder = weights_folder(sweep.task.paths.results, sweep.name)
    classes, state = len(sweep.task.dataset.class_names), fitted.state
    spec = trial_task(sweep, number, config_of(sweep.task.config, trial)).spec
    assert state is not None
    write_aside(
        folder / _weights_name(number), lambda aside: save_trained(state, spec, num_classes=classes, path=aside)
    )


def leave_best_only(results: Path, name: str, trials: Sequence[TrialRecord]) -> None:
    """Delete the weights of trials that were the best for a while; one that is running may be about to be it."""
    best = best_trial(trials)
    kept = {_weights_name(trial.number) for trial in trials if trial == best or trial.state == "running"}
    for file in weights_folder(results, name).glob("trial-*.safetensors"):
        if file.name not in kept:
            file.unlink()


def _weights_name(number: int) -> str:
    return f"trial-{number:05d}.safetensors"


def evaluate_here(sweep: SweepTask) -> Evaluate:
    """Return what carries out trials in this process: warm, with the data mapped once for each image size."""
    mapped: dict[object, Prepared] = {}

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        with locks.machine_shared():
            if task.spec.resize not in mapped:
                mapped[task.spec.resize] = prepare(task)
            return run_trial(task, mapped[task.spec.resize], on_progress, rungs=rungs_of(sweep))

    return evaluate
