"""Workers of an Optuna study: start trials within the budget, prune them, and keep the weights of the best one."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
from bench.runs.execution import prepare
from bench.runs.plan import Task
from bench.tuning import space, storage
from bench.tuning.conversion import records
from bench.tuning.objective import Fitted, OnProgress, TrialProgress, run_trial, rungs_for
from bench.tuning.records import ENDED, SweepBudget, TrialRecord, best_trial, config_of, rank_of
from bench.tuning.space import Space
from imgcls.errors import ConfigError, RunError
from imgcls.files import write_aside
from imgcls.models.building import save_trained
from imgcls.models.registry import at_size
from imgcls.training.fitting import gmacs_of

if TYPE_CHECKING:
    from imgcls.data.prepared import Prepared

LOGGER = logging.getLogger(__name__)

REDUCTION: Final = 2
"""At each rung, one in this number of trials continues (ASHA, Li et al. 2020)."""

# Failed trials do not count against a budget of trials: without this limit, a lasting cause, such as a full disk, would
# fail trials without end.
FAILURES_IN_A_ROW: Final = 3

POLL_S: Final = 1.0


Evaluate = Callable[[Task, OnProgress], Fitted]
"""Runs one trial, in this process or elsewhere; ``OnProgress`` is called as it proceeds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepTask:
    """A study as its worker processes receive it; never part of a record, because ``url`` may contain a password."""

    task: Task
    name: str
    url: str = field(repr=False)
    space: Space
    budget: SweepBudget


class _Costs:
    """Training compute per image, in 1e12 multiply-accumulates; counted once per model and image size."""

    # A count takes a second. Of the hyperparameters, only the image size changes the number of operations.

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], float] = {}

    def tmacs_per_image(self, task: Task) -> float:
        key = task.spec.timm_name, task.spec.resize.size
        if key not in self._counted:
            self._counted[key] = gmacs_of(task.spec, len(task.dataset.class_names))
        return task.config.train.passes_per_image * self._counted[key] / 1e3


def work(sweep: SweepTask, store: RDBStorage, evaluate: Evaluate, *, pruner: BasePruner | None = None) -> None:
    """Run trials until the budget is spent and no trial of the study is running anywhere.

    Raises RunError if three consecutive trials have failed since the start of this call.
    """
    study = optuna.load_study(study_name=sweep.name, storage=store, pruner=pruner or asha())
    costs = _Costs()
    # Earlier failures do not count: their cause may have been removed before the command was repeated.
    before = {trial.number for trial in records(study) if trial.state in ENDED}
    while True:
        with contextlib.ExitStack() as turn:
            # Without the lock, two workers could both see room for one more trial, and start two.
            turn.enter_context(storage.locked(store, sweep.name))
            # Before the budget is checked, where a trial whose worker died would count as running.
            fail_stale_trials(study)
            trials = records(study)
            _stop_after_failures([trial for trial in trials if trial.number not in before])
            if not spent(sweep.budget, trials):
                study.sampler = sampler(sweep.task.config.seed, len(trials))
                _one(study, sweep, evaluate, costs=costs, store=store, turn=turn)
                continue
        # A trial that still runs may fail, and then another one is due.
        if not any(trial.state == "running" for trial in trials):
            return
        time.sleep(POLL_S)


def asha() -> SuccessiveHalvingPruner:
    """Return the pruner; ``_is_behind`` reports the score at rung i as step ``REDUCTION**i``."""
    # Optuna's pruner has its rungs at powers of the reduction factor, while ours are fractions of a trial's own steps:
    # trials differ in epochs, and after equal numbers of epochs their schedules are in different phases.
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)


def sampler(seed: int, number: int) -> TPESampler:
    """Return the sampler of one trial, seeded by the study's seed and the number of trials before it."""
    # A sampler seeded once per process would draw its first values again after a restart, and in each worker.
    return TPESampler(seed=int(np.random.SeedSequence((seed, number)).generate_state(1)[0]))


def _stop_after_failures(trials: Sequence[TrialRecord]) -> None:
    ended = [trial for trial in trials if trial.state in ENDED and not trial.gone]
    last = ended[-FAILURES_IN_A_ROW:]
    if len(last) == FAILURES_IN_A_ROW and all(trial.state == "failed" for trial in last):
        message = f"{FAILURES_IN_A_ROW} trials failed in a row; the last: {last[-1].reason}"
        raise RunError(message)


def spent(budget: SweepBudget, trials: Sequence[TrialRecord]) -> bool:
    """Return whether the budget allows no further trial; a running trial counts as finished."""
    # A failed trial costs time and compute, but is replaced by another one.
    taken = [trial for trial in trials if trial.state in {"complete", "pruned", "running"}]
    used = [trial for trial in trials if trial.state != "waiting"]
    minutes = sum(trial.trial_time_s for trial in used) / 60
    # A running trial counts with all its steps, as it is not known yet whether it will be pruned.
    tmacs = sum(trial.planned_tmacs if trial.state == "running" else trial.tmacs for trial in used)
    limits = ((budget.trials, len(taken)), (budget.minutes, minutes), (budget.tmacs, tmacs))
    return any(limit is not None and value >= limit for limit, value in limits)


def _one(  # noqa: PLR0913 - the parts of a worker's state that a trial needs
    study: Study,
    sweep: SweepTask,
    evaluate: Evaluate,
    *,
    costs: "_Costs",
    store: RDBStorage,
    turn: contextlib.ExitStack,
) -> None:
    """Run one trial; ``turn``, which holds the study's lock, is closed as soon as its hyperparameters are drawn."""
    started: list[int] = []

    def objective(trial: Trial) -> float:
        started.append(trial.number)
        values = space.suggest(trial, sweep.space)
        # From here on, the trial is in the storage as running, with its values: other workers may start theirs.
        turn.close()
        fitted = _attempt(trial, sweep, values, evaluate, costs)
        assert fitted.val_top1_accuracy is not None
        # Before Optuna stores the score, so that the best trial of a study has weights, even after a kill.
        with storage.locked(store, sweep.name):
            _keep_if_best(sweep, records(study), trial.number, fitted)
        return fitted.val_top1_accuracy

    try:
        # Caught, so that Optuna stores the trial as failed, and ``work`` decides whether to continue.
        study.optimize(objective, n_trials=1, catch=(Exception,))
    except (UpdateFinishedTrialError, ValueError):
        if not started or records(study)[started[0]].state != "failed":
            raise
        # Another worker has marked this trial as failed, because its heartbeat was late, and may have queued a retry.
        # Optuna refuses to store anything more for a finished trial.
    with storage.locked(store, sweep.name):
        leave_best_only(sweep.task.paths.results, sweep.name, records(study))


def _attempt(
    trial: Trial, sweep: SweepTask, values: dict[str, space.Value], evaluate: Evaluate, costs: _Costs
) -> Fitted:
    """Train one setting and store its cost with the trial; raises TrialPruned if it ends early."""
    is_default = trial.user_attrs.get("default", False)
    task = trial_task(
        sweep, _origin(trial), sweep.task.config if is_default else space.apply(sweep.task.config, values)
    )
    per_image = costs.tmacs_per_image(task)
    whole = per_image * sum(task.dataset.counts["train"]) * task.config.train.epochs
    started = time.perf_counter()

    # Stored at each report, so that the cost of a trial whose worker is killed is known as well.
    def note(**attributes: float | str) -> None:
        attributes["trial_time_s"] = round(time.perf_counter() - started, 3)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)

    def on_progress(at: TrialProgress) -> bool:
        note(fraction=at.fraction, tmacs=per_image * at.images, train_time_s=round(at.train_time_s, 3))
        return at.at_rung and _is_behind(trial, at, rungs_of(sweep).index(at.fraction))

    # Zeros, because a retry starts with a copy of the attributes of the trial that it repeats.
    note(planned_tmacs=whole, tmacs=0.0, train_time_s=0.0, fraction=0.0, machine=task.environment.machine)
    try:
        fitted = evaluate(task, on_progress)
    except Exception as error:
        note(reason=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        raise
    note(tmacs=per_image * fitted.images, train_time_s=round(fitted.train_time_s, 3))
    # Divergence and lack of memory are properties of the setting, hence pruned: a failed trial would be replaced.
    if fitted.reason is not None:
        note(reason=fitted.reason)
        raise optuna.TrialPruned(fitted.reason)
    return fitted


def rungs_of(sweep: SweepTask) -> tuple[float, ...]:
    """Return the rungs of a study, which depend on the epochs of its default setting."""
    return rungs_for(sweep.task.config.train.epochs)


def _is_behind(trial: Trial, at: TrialProgress, rung: int) -> bool:
    """Report the score at a rung, and return whether to prune the trial; the default setting never is."""
    trial.report(at.val_top1_accuracy, step=REDUCTION**rung)
    # Called for the default setting too: it stores the score that the other trials are compared with.
    return trial.should_prune() and not trial.user_attrs.get("default", False)


def _origin(trial: Trial) -> int:
    """Return the number of the original trial of a retry, and of any other trial its own."""
    # The number names the folder of checkpoints, from which a retry resumes.
    number = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial.study.get_trials(deepcopy=False)[trial.number])
    return trial.number if number is None else number


def trial_task(sweep: SweepTask, number: int, config: RunConfig) -> Task:
    """Return the task of a trial, whose files are separate from those of runs."""
    base = sweep.task
    # The image size may be a hyperparameter; the task's spec has that of the default setting.
    size = config.loader.image_size
    spec = base.spec if size == base.spec.resize.size else at_size(base.spec, size)
    return replace(base, config=config, spec=spec, paths=base.paths.trials, train_id=f"{sweep.name}.trial-{number:05d}")


def without_refused_sizes(space: Space, task: Task) -> Space:
    """Return a search space without the image sizes that the task's network cannot have."""
    if "image_size" not in space:
        return space
    sizes = space["image_size"]
    refused = [size for size in sizes.choices if not _accepts(task, size)]
    if refused:
        LOGGER.info("image sizes that %s cannot have: %s", task.config.model, ", ".join(map(str, refused)))
    return {**space, "image_size": replace(sizes, choices=tuple(size for size in sizes.choices if size not in refused))}


def _accepts(task: Task, image_size: int) -> bool:
    try:
        at_size(task.spec, image_size)
    except ConfigError:
        return False
    return True


def weights_folder(results: Path, name: str) -> Path:
    """Return the folder of the weights of a study's best trial."""
    return Paths(results=results).artifacts(name)


def _keep_if_best(sweep: SweepTask, trials: Sequence[TrialRecord], number: int, fitted: Fitted) -> None:
    """Write the weights of a trial if its score is the best so far; those of the previous best trial remain."""
    # The trial itself is still running here, so that ``best_trial`` is the best one among the others.
    best, trial = best_trial(trials), trials[number]
    if best is not None and rank_of(best) > (fitted.val_top1_accuracy or 0.0, -number):
        return
    folder = weights_folder(sweep.task.paths.results, sweep.name)
    classes, state = len(sweep.task.dataset.class_names), fitted.state
    spec = trial_task(sweep, number, config_of(sweep.task.config, trial)).spec
    assert state is not None
    write_aside(
        folder / _weights_name(number), lambda aside: save_trained(state, spec, num_classes=classes, path=aside)
    )


def leave_best_only(results: Path, name: str, trials: Sequence[TrialRecord]) -> None:
    """Delete the weights of trials that are no longer the best."""
    best = best_trial(trials)
    # A running trial may have written its weights, and be about to store its score.
    kept = {_weights_name(trial.number) for trial in trials if trial == best or trial.state == "running"}
    for file in weights_folder(results, name).glob("trial-*.safetensors"):
        if file.name not in kept:
            file.unlink()


def _weights_name(number: int) -> str:
    return f"trial-{number:05d}.safetensors"


def evaluate_here(sweep: SweepTask) -> Evaluate:
    """Return a function that runs a trial in this process; the cached pixels of each image size are opened once."""
    mapped: dict[object, Prepared] = {}

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        # A trial beside a latency measurement would distort it.
        with locks.machine_shared():
            if task.spec.resize not in mapped:
                mapped[task.spec.resize] = prepare(task)
            return run_trial(task, mapped[task.spec.resize], on_progress, rungs=rungs_of(sweep))

    return evaluate
