"""The command select: from many candidates to a table of finalists."""

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import harness
from bench.cli.arguments import SelectArgs
from bench.cli.launchers import Launcher, launcher_of, planner_of
from bench.cli.results import show, show_document
from bench.cli.search.sweep import Search, carry_out_study
from bench.config import SELECT_RULE, RunConfig, with_overrides
from bench.estimates import estimating
from bench.estimates.document import estimate_document
from bench.harness import Finished, Planner
from bench.leaderboard import terminal
from bench.records.paths import check_writable
from bench.runs.plan import Task
from bench.selection.candidates import Candidate, candidates_of
from bench.selection.latency.screening import require_screenable
from bench.selection.selecting import Hands, Selected, Wish, check
from bench.selection.selecting import select as carry_out
from bench.tuning.records import SweepBudget, config_of
from bench.tuning.search import without_refused_sizes
from bench.tuning.space import flags, parse_space
from bench.tuning.storage import default_url, open_storage, quiet
from imgcls.config import require
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)

MAX_FINALISTS: Final = 5

START_S: Final = 6.0
"""Seconds for which a command starts and loads its libraries; they are part of the minutes."""


def select(args: SelectArgs, configs: Sequence[RunConfig], console: Console) -> int:
    """Select among candidates, and print the table of the finalists; return 0, or 1 if a run of theirs failed."""
    since = time.time() - START_S
    _check(args, configs)
    sizes = args.sizes or (configs[0].loader.image_size,)
    models = [config.model for config in configs]
    candidates = candidates_of(models, sizes, named=args.candidates)
    by_model = {config.model: config for config in configs}
    planned = [_config(by_model[candidate.model], candidate) for candidate in candidates]
    with launcher_of(args) as launcher:
        planner = planner_of(args, planned, launcher, threads=launcher.trial_threads)
        tasks = [planner(config) for config in planned]
        _require_weights(tasks)
        if args.dry_run:
            return _dry_run(tasks, console)
        wish = Wish(
            minutes=args.minutes,
            finalists=args.finalists,
            limit_ms=args.max_latency_ms,
            runtime=args.runtime,
            tune=args.tune,
            command=_command(args, configs[0]),
            since=since,
        )
        val = check(tasks, wish)
        quiet()
        store = open_storage(args.storage) if args.storage else None
        # After the checks, because it creates the folder, which an invalid flag must not leave behind.
        check_writable(args.results)
        store = store or open_storage(default_url(args.results))
        hands = Hands(plan=planner, train=launcher.train, crew=launcher.crew, jobs=args.jobs)
        selected = carry_out(tasks, val, wish, hands, store)
        finished = _tuned(args, selected, planner, launcher) if args.tune else selected.finished
    show(terminal.tables([finished.table]), console)
    console.print(f"written: {selected.page}", markup=False)
    return 0 if finished.ok else 1


def _check(args: SelectArgs, configs: Sequence[RunConfig]) -> None:
    """Raise ConfigError for flags that a selection does not have."""
    require(name="minutes", value=args.minutes, low=1e-9, high=1e6, hint="use a number above 0")
    require(name="finalists", value=args.finalists, low=1, high=MAX_FINALISTS, hint=f"use 1 to {MAX_FINALISTS}")
    require(name="max_latency_ms", value=args.max_latency_ms, low=1e-9, high=1e9, hint="use a number above 0")
    require_screenable(args.runtime)
    first, train, folds = configs[0], configs[0].train, {config.split.fold for config in configs}
    refused = (
        (args.seeds != (0,), Setting("seeds", " ".join(map(str, args.seeds))), "it uses as many seeds as fit"),
        (len(folds) > 1, Setting("folds", first.split.folds), "it has one split; add --fold 0"),
        (train.budget is not None, Setting("budget", train.budget), "its rounds are epochs; use --epochs"),
        (first.budget.amount is None, Setting("recipe", first.recipe), "its epochs differ between models"),
        (train.tune_layers == "head", Setting("tune_layers", "head"), "it trains all layers after frozen features"),
        (train.imbalance == "post-hoc", Setting("imbalance", "post-hoc"), "it adjusts finished trainings"),
        (train.devices != 1, Setting("devices", train.devices), "each form has one device; use --jobs"),
        (args.weights == "none", Setting("weights", "none"), "it begins with features of pre-trained weights"),
        (
            args.tune and args.launcher != "local",
            Setting("tune", value=True),
            "a cluster ends before; run sweep after it",
        ),
        (args.force_new, Setting("force_new", value=True), "another results folder starts anew"),
        (bool(args.sizes) and "image_size" in first.overrides, Setting("image_size"), "it is one of --sizes"),
    )
    for wrong, setting, hint in refused:
        if wrong:
            raise ConfigError(setting, f": not with select: {hint}")


def _config(config: RunConfig, candidate: Candidate) -> RunConfig:
    """Return the config of a candidate: its size is part of its setting, and not of the table's budget."""
    # Timing bf16 for each candidate would take minutes: float32, unless a precision was asked for.
    precision = {} if "precision" in config.overrides else {"precision": "fp32"}
    sized = with_overrides(config, {"image_size": candidate.image_size, **precision})
    others = {name: value for name, value in sized.overrides.items() if name not in {"image_size", *precision}}
    overrides = {"image_size": candidate.image_size, **others}
    return replace(sized, budget=replace(sized.budget, image_size=None, rule=SELECT_RULE), overrides=overrides)


def _require_weights(tasks: Sequence[Task]) -> None:
    if random := [task.config.model for task in tasks if task.spec.weights.init == "random"]:
        names = ", ".join(dict.fromkeys(random))
        reason = f": no pre-trained weights of {names}; name a folder that has them, or other candidates"
        raise ConfigError(Setting("weights"), reason)


def _dry_run(tasks: Sequence[Task], console: Console) -> int:
    estimates = estimating.estimate(tasks)
    show_document(estimate_document(estimates), console)
    return 1 if any(estimate.error for estimate in estimates) else 0


def _command(args: SelectArgs, config: RunConfig) -> str:
    """Return the command, with the names of folders in place of their paths, which are of this machine."""
    words = ["--data", Path(args.data).name, "--weights", Path(args.weights).name]
    words += ["--minutes", f"{args.minutes:g}", "--finalists", str(args.finalists)]
    words += ["--candidates", *args.candidates] if args.candidates else []
    words += ["--sizes", *map(str, args.sizes)] if args.sizes else []
    words += ["--max-latency-ms", f"{args.max_latency_ms:g}"] if args.max_latency_ms is not None else []
    words += ["--runtime", args.runtime, "--recipe", config.recipe] + (["--tune"] if args.tune else [])
    words += ["--labels", Path(args.labels).name] if args.labels is not None else []
    return f"python -m bench select {shlex.join([*words, *flags(config)])}"


def _tuned(args: SelectArgs, selected: Selected, planner: Planner, launcher: Launcher) -> Finished:
    """Search the hyperparameters of the best finalist in the minutes that are kept for it, and train the best setting.

    Without time or a finished trial, the table stays as it is.
    """
    base, seconds = selected.runs[0], selected.tune_s
    if seconds <= 0:
        LOGGER.warning("no time is left to tune %s", base.config.model)
        return selected.finished
    # A study of the same model at another size may exist.
    search = Search(args=replace(args, force_new=True), budget=SweepBudget(minutes=seconds / 60), launcher=launcher)
    space = without_refused_sizes(parse_space(args.space, base.config), base)
    record = carry_out_study(search, base, space, since=time.time())
    if record is None or record.best is None:
        return replace(selected.finished, ok=False)
    tuned = planner(config_of(base.config, record.best), tuning=record.tuning())
    return harness.carry_out([*selected.runs, replace(tuned, derived_from=(base.run_id,))], launcher.train)
