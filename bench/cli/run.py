"""The commands run, run-all, measure and models, which load torch."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import harness
from bench.cli.arguments import (
    EnsembleArgs,
    EstimateArgs,
    LearningCurveArgs,
    MeasureArgs,
    ModelsArgs,
    RunAllArgs,
    RunArgs,
)
from bench.cli.launchers import launcher_of, planner_of
from bench.cli.results import read_tables, show, show_document
from bench.cli.search import sweep
from bench.comparison import analysis
from bench.comparison.decisions.doubling import learning_curve as curve_of
from bench.comparison.decisions.members import against_members
from bench.comparison.tables import TableKey, table_key
from bench.config import RunConfig, with_overrides
from bench.ensembles import planning
from bench.estimates import estimating
from bench.estimates.document import estimate_document
from bench.latency import measure
from bench.latency.protocol import FULL
from bench.leaderboard import page, terminal
from bench.leaderboard.advice import members_advice, photos_advice
from bench.recipes import SHARES
from bench.records.copies import find_copies
from bench.records.environment import read_environment
from bench.records.paths import Paths, check_writable
from bench.records.schema import RunRecord
from bench.records.store import read_records
from bench.runs import local
from bench.runs.plan import Task, unique
from imgcls.config import RuntimeConfig
from imgcls.devices import usable_cuda
from imgcls.errors import ConfigError
from imgcls.files import default_cache
from imgcls.inference.runtimes import check_runtimes, default_runtimes, threads_allowed
from imgcls.models.registry import MODELS

LOGGER = logging.getLogger(__name__)


def run_one_model(args: RunArgs, configs: Sequence[RunConfig], console: Console) -> int:
    """Plan and carry out the runs of one model; return 0, or 1 if a run or measurement failed."""
    planner = planner_of(args, configs)
    tasks = [planner(config, force=args.force) for config in configs]
    # After the planning, because it creates the folder, which an invalid flag must not leave behind.
    check_writable(args.results)
    return _carry_out(unique(tasks), console)


def run_all(args: RunAllArgs, configs: Sequence[RunConfig], console: Console) -> int:
    """Plan all runs, tune if requested, and carry them out; return 0, or 1 if a run, measurement or study failed."""
    with launcher_of(args) as launcher:
        planner = planner_of(args, configs, launcher, threads=launcher.run_threads)
        tasks = [planner(config, force=args.force) for config in configs]
        tuned = sweep.tuned_tasks(args, tasks, planner, launcher=launcher)
        check_writable(args.results)
        ok = _carry_out(unique([*tasks, *tuned.tasks]), console, launcher.train) == 0
        return 0 if ok and not tuned.failed else 1


def plan(args: EstimateArgs, configs: Sequence[RunConfig], console: Console) -> int:
    """Print the estimated cost of runs; return 0, or 1 if a model could not be probed."""
    if args.tuned or args.tune_trials or args.tune_minutes or args.tune_tmacs or args.launcher != "local":
        message = (
            "plan: estimates the runs of this machine, not studies and clusters; leave --tune-... and --launcher out"
        )
        raise ConfigError(message)
    planner = planner_of(args, configs)
    tasks = unique([planner(config, force=args.force) for config in configs])
    check_writable(args.results)
    estimates = estimating.estimate(tasks)
    show_document(estimate_document(estimates), console)
    return 1 if any(estimate.error for estimate in estimates) else 0


def learning_curve(args: LearningCurveArgs, configs: Sequence[RunConfig], console: Console) -> int:
    """Carry out the runs of one model on shares of train, and print what the last doubling gained; 0, or 1."""
    if any(config.train.train_share < 1 for config in configs):
        message = f"--train-share {configs[0].train.train_share:g}: not with learning-curve, which has its own shares"
        raise ConfigError(message)
    by_share = {share: [with_overrides(config, {"train_share": share}) for config in configs] for share in SHARES}
    every = [config for share_configs in by_share.values() for config in share_configs]
    planner = planner_of(args, every)
    tasks = {
        share: [planner(config, force=args.force) for config in share_configs]
        for share, share_configs in by_share.items()
    }
    check_writable(args.results)
    status = _carry_out(unique([task for share_tasks in tasks.values() for task in share_tasks]), console)
    runs = {share: {task.run_id for task in share_tasks} for share, share_tasks in tasks.items()}
    show(map(str, photos_advice(curve_of(runs, analysis.read(args.results)))), console)
    return status


def ensemble(args: EnsembleArgs, console: Console) -> int:
    """Combine rows into an ensemble, and test it against its best member; return 0, or 1 if a run failed."""
    rule = "greedy" if args.greedy else args.rule
    paths = Paths(results=args.results.absolute(), cache=default_cache().absolute())
    rows = planning.choose(args.names, read_tables(args))
    tasks = planning.tasks_of(rows, rule, paths=paths, environment=read_environment())
    check_writable(args.results)
    status = _carry_out(tasks, console)
    ensembles = against_members({task.run_id for task in tasks}, analysis.read(paths.results))
    show(map(str, members_advice(ensembles)), console)
    return status


def _carry_out(tasks: list[Task], console: Console, train: local.Train = local.train_here) -> int:
    try:
        finished = harness.carry_out(tasks, train)
    except OSError as error:
        LOGGER.error("stopped: the results cannot be written (%s)", error.strerror)  # noqa: TRY400 - a full disk needs no traceback
        return 1
    show(terminal.tables([finished.table]), console)
    console.print(f"written: {tasks[0].paths.leaderboard}", markup=False)
    return 0 if finished.ok else 1


def measure_again(args: MeasureArgs, console: Console) -> int:
    """Measure by the full protocol the networks of this machine's runs, and of others' if their artifacts are here.

    With ``args.every_run``, measure every run; with ``args.artifacts``, copied artifacts instead. Return 0 if every run
    was measured in every runtime, else 1.
    """
    paths = Paths(results=args.results.absolute(), cache=default_cache().absolute())
    machine = read_environment().machine
    check_runtimes(args.runtime.runtimes)
    runtime = replace(
        args.runtime,
        threads=threads_allowed(args.runtime.threads),
        runtimes=args.runtime.runtimes or default_runtimes(cuda=usable_cuda()),
    )
    if args.artifacts is not None:
        if args.every_run:
            message = "--every-run: not with --artifacts, which measures every folder that it is given"
            raise ConfigError(message)
        return _measure_copies(args.artifacts, paths, runtime, console)
    all_records = read_records(paths.results)
    # Runs of this machine whose artifacts are missing are included: ``measure_all`` warns about each of them.
    records = [
        record
        for record in all_records
        if record.status == "ok" and (record.environment.machine == machine or paths.outcome(record.train_id).exists())
    ]
    if not records:
        message = (
            f"--results {args.results.name}: no finished run of this machine ({machine}), and no artifacts of another; "
            "start with run-all"
        )
        raise ConfigError(message)
    check_writable(paths.results)
    records = records if args.every_run else _one_of_each_network(records, paths, machine)
    measured = measure.measure_all(records, paths, protocol=FULL, runtime=runtime, known=all_records)
    show(terminal.measured_lines(measured), console)
    show(terminal.tables(page.write(paths)), console)
    return 0 if measured.ok else 1


def _one_of_each_network(records: Sequence[RunRecord], paths: Paths, machine: str) -> list[RunRecord]:
    """Return one run of each network in each table, with artifacts if possible.

    Preferred is a run with figures of the full protocol, which the new ones replace; then few overrides and a low seed.
    """

    def rank(record: RunRecord) -> tuple[bool, bool, bool, int, int, int, str]:
        missing = not paths.outcome(record.train_id).exists()
        new = not any(row.protocol == "full" and row.has_figures for row in record.on(machine).measurements)
        config = record.config
        tie_break = config.seed, config.split.fold or 0, record.run_id
        return missing, new, record.tuning is not None, len(config.overrides), *tie_break

    chosen: dict[tuple[TableKey, str | None], RunRecord] = {}
    for record in sorted(records, key=rank):
        # A table shows the figures of its own runs only.
        chosen.setdefault((table_key(record), record.network), record)
    return list(chosen.values())


def _measure_copies(artifacts: Path, paths: Paths, runtime: RuntimeConfig, console: Console) -> int:
    copies = find_copies(artifacts)
    for reason in copies.skipped:
        LOGGER.warning("skipped %s", reason)
    measure.check_copies(copies.found)
    check_writable(paths.results)
    measured = measure.measure_copies(copies.found, paths, protocol=FULL, runtime=runtime)
    show(terminal.measured_lines(measured), console)
    console.print(f"written: {paths.measured_by(read_environment().machine)}", markup=False)
    console.print(
        "Copy this folder to measurements/ in the results folder of the training machine; run leaderboard there."
    )
    return 0 if measured.ok and not copies.skipped else 1


def show_models(_args: ModelsArgs, console: Console) -> int:
    """List the known models with their pretrained weights and image sizes."""
    table = Table("Model", "Weights (timm)", "Native px", "Minimum px")
    for name, row in MODELS.items():
        table.add_row(name, row.timm_name, str(row.native_size), str(row.min_size))
    console.print(table)
    console.print("Any other timm model can be used by its name.")
    return 0
