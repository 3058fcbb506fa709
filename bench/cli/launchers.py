"""Launchers, which carry out trainings and trials: in processes on this machine, or on a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from bench import harness
from bench.cli.arguments import PlanArgs, SearchArgs
from bench.config import RunConfig
from bench.harness import Planner
from bench.runs import local
from bench.runs.on_ray import ray_cluster
from bench.runs.plan import Decide
from bench.tuning import ray_trials, study
from imgcls.config import StoreConfig, require
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.parallel import usable_cores


@dataclass(frozen=True, kw_only=True, slots=True)
class Launcher:
    """The functions that train and that carry out trials, and the CPU threads of a run and of a trial (0: all cores).

    ``cuda`` is whether the machines that train have a GPU, and ``decide`` chooses their precision; None: the same as
    this machine. ``shares_files`` is whether they can read the files of this one.
    """

    train: local.Train
    workers: study.Workers
    run_threads: int
    trial_threads: int
    cuda: bool | None
    decide: Decide | None = None
    shares_files: bool = True


@contextmanager
def on_this_machine(args: SearchArgs) -> Iterator[Launcher]:
    """Train in processes on this machine: one run at a time, ``--jobs`` trials at a time."""
    if args.ray_address:
        message = "--ray-address needs --launcher ray"
        raise ConfigError(message)
    yield Launcher(
        train=local.train_here,
        workers=partial(study.processes, jobs=args.jobs),
        # All cores, as runs are trained one at a time.
        run_threads=0,
        # Trials that each use all cores would compete for them.
        trial_threads=max(1, usable_cores() // args.jobs),
        cuda=None,
    )


@contextmanager
def on_ray(args: SearchArgs) -> Iterator[Launcher]:
    """Train on a Ray cluster, ``--jobs`` runs or trials at a time; latency is measured on this machine afterwards."""
    with ray_cluster.connected(args.ray_address, jobs=args.jobs) as cluster:
        yield Launcher(
            train=partial(ray_cluster.train, cluster=cluster),
            workers=partial(ray_trials.threads, cluster=cluster, jobs=args.jobs),
            run_threads=cluster.threads,
            trial_threads=cluster.threads,
            cuda=cluster.gpus > 0,
            decide=partial(ray_cluster.decide_there, cluster=cluster),
            shares_files=False,
        )


LAUNCHERS: Final[dict[str, Callable[[SearchArgs], AbstractContextManager[Launcher]]]] = {
    "local": on_this_machine,
    "ray": on_ray,
}
"""Launchers by the name that ``--launcher`` takes."""


def launcher_of(args: SearchArgs) -> AbstractContextManager[Launcher]:
    """Return the launcher that ``--launcher`` names, as a context manager; raises ConfigError if a flag is invalid."""
    require(name="jobs", value=args.jobs, low=1, high=4096, hint="use 1 or more")
    if args.launcher not in LAUNCHERS:
        message = f"--launcher {args.launcher}: unknown; known: {', '.join(LAUNCHERS)}"
        raise ConfigError(message)
    return LAUNCHERS[args.launcher](args)


def planner_of(
    args: PlanArgs, configs: Sequence[RunConfig], launcher: Launcher | None = None, *, threads: int = 0
) -> Planner:
    """Return the planner of a command's runs, from its flags; see ``harness.planner`` for errors."""
    return harness.planner(
        configs,
        data=args.data,
        labels=args.labels,
        verify=args.verify,
        weights=args.weights,
        results=args.results,
        threads=threads,
        cuda=launcher.cuda if launcher else None,
        decide=launcher.decide if launcher else None,
        store=_store_of(args, launcher),
    )


def _store_of(args: PlanArgs, launcher: Launcher | None) -> StoreConfig:
    if launcher is None or launcher.shares_files:
        return args.pixels
    if args.pixels.store in {"files", "jpeg"}:
        raise ConfigError(
            Setting("store", args.pixels.store), ": the workers of a Ray cluster may share no disk; use pixels"
        )
    return replace(args.pixels, store="pixels")
