"""What the commands that train or measure do; imports torch."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import harness, leaderboard, readers, terminal
from bench.config import Paths, RunConfig
from bench.environment import read_environment
from bench.launchers import terminate_as_interrupt
from bench.plan import DataPlan, Task, make_task, plan_data, unique
from bench.records import read_records
from imgcls.errors import ConfigError
from imgcls.models import MODELS, resolve_spec, weights_policy
from imgcls.weights import random_weights


def plan_and_run(  # noqa: PLR0913 - what the command line decided
    configs: Sequence[RunConfig], *, data: str, weights: str, paths: Paths, force: bool, console: Console
) -> int:
    """Plan all runs, then carry them out; 0 all well, 1 where a run failed."""
    paths = Paths(results=paths.results.absolute(), cache=paths.cache.absolute())
    for config in configs:
        resolve_spec(config.model, config.loader, random_weights)
    with terminate_as_interrupt():
        weights_for = weights_policy(weights, warn=lambda line: console.print(f"WARNING: {line}", style="bold red"))
        plan = _plan_data(configs[0], data, paths, console)
        environment = read_environment()
        tasks = [
            make_task(config, plan, weights_for=weights_for, environment=environment, paths=paths, force=force)
            for config in configs
        ]
        harness.check_writable(paths.results)
        return _carry_out(unique(tasks), console)


def _plan_data(config: RunConfig, data: str, paths: Paths, console: Console) -> DataPlan:
    audit = readers.audited(data, paths.cache, console)
    for line in (readers.audit_line(audit), *readers.remarks(audit)):
        console.print(line, markup=False)
    if audit.removed:
        console.print(f"what was left out, and why: python -m bench audit {data}", markup=False)
    return plan_data(audit, config, data=data)


def _carry_out(tasks: list[Task], console: Console) -> int:
    for line in tasks[0].dataset.missing:
        console.print(f"note: {line}", markup=False)
    try:
        ok = harness.run_all(tasks, console)
    except OSError as error:
        console.print(f"stopped: the results cannot be written ({error.strerror})", style="bold red", markup=False)
        return 1
    results = tasks[0].paths.results
    wanted = {task.run_id for task in tasks}
    records = [record for record in read_records(results, warn=console.print) if record.run_id in wanted]
    terminal.print_tables(leaderboard.group(records), console)
    console.print(f"written: {results / 'leaderboard.md'}", markup=False)
    return 0 if ok else 1


def measure_again(results: Path, console: Console) -> int:
    """Measure every good run of this machine again; 0 where all rows have figures."""
    results = results.absolute()
    machine = read_environment().machine
    records = [
        record
        for record in read_records(results, warn=console.print)
        if record.status == "ok" and record.environment.machine == machine
    ]
    if not records:
        message = f"--results {results.name}: no finished run of this machine ({machine}); start with run-all"
        raise ConfigError(message)
    harness.check_writable(results)
    with terminate_as_interrupt():
        ok = harness.measure_all(records, results, console)
    leaderboard.write(results, warn=console.print)
    return 0 if ok else 1


def show_models(console: Console) -> int:
    """List the known models with their weights and sizes."""
    table = Table("Model", "Weights (timm)", "Native px", "Least px")
    for name, entry in MODELS.items():
        table.add_row(name, entry.timm_name, str(entry.native_size), str(entry.min_size))
    console.print(table)
    console.print("Any other name that timm lists works too.")
    return 0
