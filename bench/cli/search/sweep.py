"""The command sweep, and the tuning of run-all."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import psutil
from rich.console import Console

from bench.cli.arguments import RunAllArgs, SearchArgs, SweepArgs
from bench.cli.launchers import Launcher, launcher_of, planner_of
from bench.config import RunConfig
from bench.harness import Planner
from bench.leaderboard.cells import hyperparameters_text
from bench.records.paths import check_writable
from bench.runs.plan import Task
from bench.tuning import study
from bench.tuning.pages import document
from bench.tuning.records import StudyRecord, SweepBudget, config_of, study_file, tuned_by
from bench.tuning.search import without_refused_sizes
from bench.tuning.space import Space, parse_space
from bench.tuning.storage import default_url, open_storage, quiet
from bench.tuning.view import score_text
from imgcls.config import require
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)

DEFAULT_TRIALS: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """The flags, budget and launcher of all studies of a command."""

    args: SearchArgs
    budget: SweepBudget
    launcher: Launcher


def sweep(args: SweepArgs, configs: Sequence[RunConfig], _console: Console) -> int:
    """Start or continue the study of one model; return 0 if it ends with a best setting, else 1."""
    if len(configs) > 1:
        folds = configs[0].split.folds
        asked = f"--folds {folds}" if folds else f"--seeds {' '.join(map(str, args.seeds))}"
        message = f"{asked}: a study uses a single seed and split; drop --folds or the extra seeds"
        raise ConfigError(message)
    # Parsed before a cluster is started, which takes seconds.
    budget = _budget({"trials": args.trials, "minutes": args.minutes, "tmacs": args.tmacs}, prefix="")
    with launcher_of(args) as launcher:
        planner = planner_of(args, configs, launcher, threads=launcher.trial_threads)
        budget = budget or SweepBudget(trials=DEFAULT_TRIALS)
        # From the start of the process, so that the time of the command includes imports and planning.
        since = psutil.Process().create_time()
        ours = Search(args=args, budget=budget, launcher=launcher)
        task = planner(configs[0])
        # Of the planned config, whose defaults may differ from the recipe's: from random weights, for example.
        record = carry_out_study(
            ours, task, without_refused_sizes(parse_space(args.space, task.config), task), since=since
        )
    return 0 if record is not None and record.best is not None else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """Runs of tuned settings, and the number of studies without a best setting."""

    tasks: list[Task]
    failed: int = 0


def tuned_tasks(args: RunAllArgs, tasks: Sequence[Task], planner: Planner, *, launcher: Launcher) -> Tuned:
    """Return the runs of tuned settings, from finished studies or from studies that are carried out now.

    Raises ConfigError if the flags exclude each other, or if ``--tuned`` finds no finished study of a model.
    """
    budget = _budget(
        {"trials": args.tune_trials, "minutes": args.tune_minutes, "tmacs": args.tune_tmacs}, prefix="tune_"
    )
    on_gpus = tasks[0].config.train.device == "cuda"
    if budget is None and args.jobs > 1 and args.launcher == "local" and not on_gpus:
        message = (
            f"--jobs {args.jobs}: runs are trained one at a time on a CPU; use --launcher ray, or tune with --tune-*"
        )
        raise ConfigError(message)
    if budget is None and not args.tuned:
        return Tuned(tasks=[])
    if budget is not None and args.tuned:
        message = "--tuned uses finished studies, and --tune-* carries them out: give one of the two"
        raise ConfigError(message)
    if folds := tasks[0].config.split.folds:
        message = f"--folds {folds}: a setting tuned on one fold has seen the others' test images; run without tuning"
        raise ConfigError(message)
    # Reversed, so that the first task of each model remains: a model has one study, whatever its number of seeds.
    first = {task.config.model: task for task in reversed(tasks)}
    bases = [first[model] for model in args.models]
    if budget is None:
        studies = [tuned_by(task.paths.results, task.config, task.dataset, study.origin(task)) for task in bases]
    else:
        studies = _tune(Search(args=args, budget=budget, launcher=launcher), bases)
    settings = {record.base.model: record for record in studies if record.best is not None}
    runs = [_tuned(task, settings[task.config.model], planner, args) for task in tasks if task.config.model in settings]
    return Tuned(tasks=runs, failed=len(bases) - len(settings))


def _tune(search: Search, bases: Sequence[Task]) -> list[StudyRecord]:
    # All spaces first: an invalid one must be reported before the first study, not after it.
    spaces = [without_refused_sizes(parse_space(search.args.space, task.config), task) for task in bases]
    # The tasks were planned with the threads of runs, but several trials may share the machine.
    threads = search.args.run.train.train_threads or search.launcher.trial_threads
    done = []
    for task, space in zip(bases, spaces, strict=True):
        config = replace(task.config, train=replace(task.config.train, train_threads=threads))
        done.append(carry_out_study(search, replace(task, config=config), space, since=time.time()))
    return [record for record in done if record is not None]


def _tuned(task: Task, record: StudyRecord, planner: Planner, args: RunAllArgs) -> Task:
    assert record.best is not None
    tuned = planner(config_of(task.config, record.best), force=args.force, tuning=record.tuning())
    # A tuned row belongs to the table of its default, even if the number of epochs was tuned.
    return replace(tuned, derived_from=(task.run_id,))


def _budget(limits: dict[str, Any], *, prefix: str) -> SweepBudget | None:
    if all(limit is None for limit in limits.values()):
        return None
    for name, limit in limits.items():
        low, hint = (1, "use 1 or more") if name == "trials" else (1e-9, "use a number above 0")
        # A finite upper bound, so that infinity is refused.
        require(name=f"{prefix}{name}", value=limit, low=low, high=1e12, hint=hint)
    return SweepBudget(**limits)


def carry_out_study(search: Search, task: Task, space: Space, *, since: float) -> StudyRecord | None:
    """Open the storage, join or create the study, carry it out, and log its result; None if its budget is not spent."""
    if (devices := task.config.train.devices) != 1:
        raise ConfigError(Setting("devices", devices), ": a trial trains on one device; use 1, and several jobs")
    quiet()
    args = search.args
    # A given storage is opened first, so that an invalid URL leaves no results folder behind. The default one is a file
    # in that folder.
    store = open_storage(args.storage) if args.storage else None
    check_writable(task.paths.results)
    url = args.storage or default_url(task.paths.results)
    store = store or open_storage(url)
    planned = study.plan_study(task, space, search.budget, url=url, store=store, force_new=args.force_new)
    LOGGER.info("study %s: %s; budget %s", planned.name, ", ".join(space), search.budget)
    record = study.carry_out(planned, store=store, jobs=args.jobs, workers=search.launcher.workers, since=since)
    if record is None:
        LOGGER.error("stopped before the budget was used up; repeat the command to resume")
        return None
    document.write(record, task.paths.results)
    _report(record, args)
    return record


def _report(record: StudyRecord, args: SearchArgs) -> None:
    best, default = record.best, record.default
    counts = f"{record.count('complete')} finished, {record.count('pruned')} pruned, {record.count('failed')} failed"
    if best is None:
        LOGGER.error("failed: no trial finished (%s); see the reasons above", counts)
    else:
        beside = f"; default: {score_text(default)}" if default else ""
        chosen = hyperparameters_text(best.hyperparameters)
        LOGGER.info("best on val: %s: %s%s (%s)", chosen, score_text(best), beside, counts)
        command = document.rerun_command(record, data=args.data, labels=args.labels, weights=args.weights)
        LOGGER.info("to train it again: %s", command)
    LOGGER.info("written: %s", study_file(args.results, record.name).with_suffix(".md"))
