"""What carries out trainings and trials: processes here, or a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.cli.arguments import SearchArgs
from bench.runs import local, ray_cluster
from bench.tuning import ray_trials, study
from imgcls.config import require
from imgcls.data.parallel import usable_cores
from imgcls.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Launcher:
    """How to train and how to carry out trials; threads of each (0: all of the machine's).

    ``cuda`` says whether there is a GPU where it trains; None means as here.
    """

    train: local.Train
    workers: study.Workers
    run_threads: int
    trial_threads: int
    cuda: bool | None


@contextmanager
def on_this_machine(args: SearchArgs) -> Iterator[Launcher]:
    """Train in processes here: runs one after the other, trials ``--jobs`` at a time."""
    if args.ray_address:
        message = "--ray-address needs --launcher ray"
        raise ConfigError(message)
    yield Launcher(
        train=local.train_here,
        workers=partial(study.processes, jobs=args.jobs),
        run_threads=0,
        trial_threads=max(1, usable_cores() // args.jobs),
        cuda=None,
    )


@contextmanager
def on_ray(args: SearchArgs) -> Iterator[Launcher]:
    """Train on a Ray cluster, ``--jobs`` at a time; latency is measured here afterwards."""
    with ray_cluster.connected(args.ray_address, jobs=args.jobs) as cluster:
        yield Launcher(
            train=partial(ray_cluster.train, cluster=cluster),
            workers=partial(ray_trials.threads, cluster=cluster, jobs=args.jobs),
            run_threads=cluster.threads,
            trial_threads=cluster.threads,
            cuda=cluster.gpus > 0,
        )


LAUNCHERS: Final[dict[str, Callable[[SearchArgs], AbstractContextManager[Launcher]]]] = {
    "local": on_this_machine,
    "ray": on_ray,
}
"""Launchers by the name that ``--launcher`` takes."""


def launcher_of(args: SearchArgs) -> AbstractContextManager[Launcher]:
    """Open the launcher that was asked for; raises ConfigError."""
    require(name="jobs", value=args.jobs, low=1, high=4096, hint="use 1 or more")
    if args.launcher not in LAUNCHERS:
        message = f"--launcher {args.launcher}: unknown; known: {', '.join(LAUNCHERS)}"
        raise ConfigError(message)
    return LAUNCHERS[args.launcher](args)
