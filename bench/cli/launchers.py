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
from bench.runs.on_ray import ray_cluster, ray_runs
from bench.runs.plan import Decide
from bench.selection.crews.here import crew_here
from bench.selection.crews.on_ray import crew_there
from bench.selection.racing import Crew
from bench.tuning import ray_trials, study
from imgcls.config import Device, StoreConfig, require
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.parallel import usable_cores


@dataclass(frozen=True, kw_only=True, slots=True)
class Launcher:
    """The functions that train and that carry out trials, and the CPU threads of a run and of a trial (0: all cores).

    ``crew`` trains the forms of a race on a kind of device. ``store`` is where pixels come from, for the plan. ``cuda``
    is whether the machines that train have a GPU, ``devices`` how many devices they have, and ``decide`` chooses their
    precision; None: the same as this machine.
    """

    train: local.Train
    workers: study.Workers
    run_threads: int
    trial_threads: int
    store: StoreConfig
    cuda: bool | None
    crew: Callable[[Device], AbstractContextManager[Crew]]
    devices: int | None = None
    decide: Decide | None = None


@contextmanager
def on_this_machine(args: SearchArgs) -> Iterator[Launcher]:
    """Train in processes on this machine: ``--jobs`` trials at a time, and as many runs on GPUs, one on a CPU."""
    if args.ray_address:
        raise ConfigError(Setting("ray_address", args.ray_address), ": needs ", Setting("launcher", "ray"))
    yield Launcher(
        train=partial(local.train_here, jobs=args.jobs),
        workers=partial(study.processes, jobs=args.jobs),
        # All cores, as runs are trained one at a time. Also of several on GPUs: the number is part of their ids, which
        # must not depend on ``--jobs``.
        run_threads=0,
        # Trials that each use all cores would compete for them.
        trial_threads=max(1, usable_cores() // args.jobs),
        store=args.pixels,
        cuda=None,
        crew=partial(crew_here, args.jobs),
    )


@contextmanager
def on_ray(args: SearchArgs) -> Iterator[Launcher]:
    """Train on a Ray cluster, ``--jobs`` runs or trials at a time; latency is measured on this machine afterwards."""
    # Each node decides by its own disk; nothing is stored here.
    planned = replace(args.pixels, store="files") if args.pixels.store == "auto" else args.pixels
    with ray_cluster.connected(args.ray_address, jobs=args.jobs, store=args.pixels) as cluster:
        yield Launcher(
            train=partial(ray_runs.train, cluster=cluster),
            workers=partial(ray_trials.threads, cluster=cluster, jobs=args.jobs),
            run_threads=cluster.threads,
            trial_threads=cluster.threads,
            store=planned,
            cuda=cluster.gpus > 0,
            crew=lambda _device: crew_there(args.jobs, cluster),
            devices=cluster.devices,
            decide=partial(ray_cluster.decide_there, cluster=cluster),
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
    if args.jobs > 1 and (devices := args.run.train.devices) != 1:
        raise ConfigError(
            Setting("jobs", args.jobs), ": each training has ", Setting("devices", devices), "; use 1 job"
        )
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
        devices=launcher.devices if launcher else None,
        decide=launcher.decide if launcher else None,
        store=launcher.store if launcher else args.pixels,
    )
