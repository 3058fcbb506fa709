"""The cost of a grid of runs from a probe of each of its networks: minutes, memory and disk."""

import logging
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from bench.config import without_repetition
from bench.estimates.probing import STEPS, Probed
from bench.estimates.worker import WORKER
from bench.latency.protocol import QUICK
from bench.processes.starting import launch
from bench.records import locks
from bench.records.ids import hash_of, identity
from bench.records.schema import network_id
from bench.runs.plan import Task, finished_record, write_task
from imgcls.config import parse_budget
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)

OPENING_S: Final = 6.0
"""Seconds for which a process of the quick measurement starts and opens one runtime."""

PASSES_OF_TEST: Final = 3
"""Passes over test: in PyTorch, and twice in the check of the exported file."""

Probe = Callable[[Task], Probed | str]
"""Returns what a short run of a task took, or why it failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The cost of the runs of one setting of a model that are not done: seconds of each, and bytes.

    ``step_s`` is the median step of a whole batch, None if only the classifier is trained; ``seconds`` is from it,
    ``least_s`` and ``most_s`` are from the quartiles of the steps. ``measure_s`` is the quick measurement of the
    network, 0 if it is part of another setting or one of the network's runs is done; ``others_share`` the share of the
    CPU that other processes used meanwhile. ``error`` says why a probe failed; its numbers are then 0.
    """

    task: Task
    runs: int
    done: int
    seconds: float = 0.0
    least_s: float = 0.0
    most_s: float = 0.0
    step_s: float | None = None
    measure_s: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    state_bytes: int = 0
    others_share: float = 0.0
    error: str | None = None


def probe_here(task: Task) -> Probed | str:
    """Probe a task in a process of its own, alone on this machine."""
    file, results = task.paths.task(f"probe-{task.run_id}"), list[bytes]()
    write_task(task, file)
    LOGGER.info("  %s: a training of %d steps on random images", task.config.model, STEPS)
    with locks.machine_alone(purpose="estimate a run"):
        status = launch([WORKER, "probe", str(file)], results.append, threads=task.config.train.train_threads)
    file.unlink(missing_ok=True)
    if not results:
        return f"the probe ended with status {status}; a lack of memory is likely: use a smaller micro-batch"
    return msgspec.json.decode(results[-1], type=Probed | str)


def estimate(tasks: Sequence[Task], probe: Probe = probe_here) -> list[Estimate]:
    """Return the cost of each setting of the tasks; seeds and folds of one setting are probed once."""
    settings: defaultdict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        if (devices := task.config.train.devices) != 1:
            raise ConfigError(Setting("devices", devices), ": the time of several devices is not estimated; use 1")
        # Without the overrides, which the other fields determine.
        settings[hash_of(identity(replace(without_repetition(task.config), overrides={})))].append(task)
    return _measured_once([_estimated(of_one, probe) for of_one in settings.values()])


def _measured_once(estimates: Sequence[Estimate]) -> list[Estimate]:
    """Return the estimates with a measurement at the first setting of each network of which no run is done."""
    measured = {_network(cost.task) for cost in estimates if cost.done}
    costs = []
    for cost in estimates:
        costs.append(replace(cost, measure_s=0.0) if _network(cost.task) in measured else cost)
        if cost.measure_s:
            measured.add(_network(cost.task))
    return costs


def _network(task: Task) -> str:
    return network_id(task.spec.timm_name, image_size=task.spec.resize.size, classes=len(task.dataset.class_names))


def _estimated(tasks: Sequence[Task], probe: Probe) -> Estimate:
    waiting = [task for task in tasks if finished_record(task) is None]
    done = len(tasks) - len(waiting)
    if not waiting:
        return Estimate(task=tasks[0], runs=0, done=done)
    first = waiting[0]
    probed = probe(first)
    if isinstance(probed, str):
        return Estimate(task=first, runs=len(waiting), done=done, error=probed)
    quartiles = statistics.quantiles(probed.step_s, n=4) if probed.step_s else [0.0] * 3
    least, middle, most = (seconds_of(first, probed, step_s=step_s) for step_s in quartiles)
    return Estimate(
        task=first,
        runs=len(waiting),
        done=done,
        seconds=middle,
        least_s=least,
        most_s=most,
        step_s=statistics.median(probed.step_s) if probed.step_s else None,
        measure_s=len(first.config.runtime.runtimes) * (QUICK.model_s + OPENING_S),
        memory_bytes=probed.memory_bytes,
        disk_bytes=probed.disk_bytes,
        state_bytes=probed.state_bytes,
        others_share=probed.others_share,
    )


def seconds_of(task: Task, probed: Probed, *, step_s: float) -> float:
    """Return the seconds of a whole run, without its measurement, audit and pixel cache, if a step takes ``step_s``."""
    counts = {name: sum(by_class) for name, by_class in task.dataset.counts.items()}
    counts["train"] = max(round(task.config.train.train_share * counts["train"]), 1)
    if task.config.train.imbalance == "undersample":
        by_class = task.dataset.counts["train"]
        least = max(round(task.config.train.train_share * min(count for count in by_class if count)), 1)
        counts["train"] = least * sum(count > 0 for count in by_class)
    train, config = task.config.train, task.config
    fit_s = probed.head_image_s * counts["train"] * train.feature_views
    epochs = 0.0
    if task.adjusts is not None:
        training_s = 0.0
    elif train.tune_layers == "head":
        training_s = fit_s
    else:
        quantity, amount = parse_budget(train.budget or f"epochs={train.epochs}")
        epoch_s = step_s * len(range(0, counts["train"] - 1, config.loader.batch_size))
        if quantity == "minutes":
            training_s, epochs = 60 * amount, max(60 * amount - fit_s, 0.0) / epoch_s
        else:
            features = counts["train"] * train.feature_views if train.tune_layers == "head-then-all" else 0
            epochs = amount if quantity == "epochs" else _images(task, quantity, amount, features) / counts["train"]
            training_s = fit_s + epochs * epoch_s
    # Val in each epoch, and once more for the calibration, with as many images of train.
    evaluated = counts["val"] * (epochs + 2) + counts["test"] * PASSES_OF_TEST
    return probed.start_s + training_s + evaluated * probed.eval_image_s + probed.finish_s


def _images(task: Task, quantity: str, amount: float, features: int) -> float:
    """Return the images of a budget; of one of compute, less the passes of ``features`` images that a fit takes."""
    if quantity == "images":
        return amount
    from imgcls.training.fitting import gmacs_of  # noqa: PLC0415 - only a budget of compute needs it

    gmacs = gmacs_of(task.spec, len(task.dataset.class_names))
    return max(task.config.train.images_within(amount, gmacs=gmacs, features=features), 0.0)
