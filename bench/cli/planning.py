"""From parsed flags to tasks: weights, data and environment are looked up once a command."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from rich.console import Console

from bench.cli import reading
from bench.cli.arguments import PlanArgs
from bench.config import RunConfig
from bench.records.environment import read_environment
from bench.records.paths import Paths, default_cache
from bench.records.schema import Tuning
from bench.runs.plan import Task, make_task, plan_data
from imgcls.data.audit import Audit
from imgcls.models.registry import resolve_spec, weights_policy
from imgcls.models.weights import random_weights


class Planner(Protocol):
    """Turns a setting into a task on the data, weights and machine of this command."""

    def __call__(self, config: RunConfig, *, force: bool = False, tuning: Tuning | None = None) -> Task:
        """Plan one run; raises ConfigError for what the user got wrong."""


def planner(
    args: PlanArgs, configs: Sequence[RunConfig], console: Console, *, threads: int = 0, cuda: bool | None = None
) -> Planner:
    """Check the models, decide on weights, audit and divide the data.

    Trainings get ``threads`` (0: all cores) where the user did not say; ``cuda``: whether there is a GPU where they run
    (None: as here).
    """
    paths = Paths(results=args.results.absolute(), cache=default_cache().absolute())
    for config in configs:
        resolve_spec(config.model, config.loader, random_weights)
    weights_for = weights_policy(args.weights, warn=lambda line: console.print(f"WARNING: {line}", style="bold red"))
    audit = _audit(args.data, paths, console)
    divided = {config.split: plan_data(audit, config, data=args.data) for config in configs}
    environment = read_environment()

    def plan(config: RunConfig, *, force: bool = False, tuning: Tuning | None = None) -> Task:
        train = replace(config.train, train_threads=config.train.train_threads or threads)
        return make_task(
            replace(config, train=train),
            divided[config.split],
            weights_for=weights_for,
            environment=environment,
            paths=paths,
            force=force,
            tuning=tuning,
            cuda=cuda,
        )

    return plan


def _audit(data: str, paths: Paths, console: Console) -> Audit:
    audit = reading.audited(data, paths.cache, console)
    for line in (reading.audit_line(audit), *reading.remarks(audit)):
        console.print(line, markup=False)
    if audit.removed:
        console.print(f"skipped files and reasons: python -m bench audit {data}", markup=False)
    return audit
