"""The steps of ``run-all`` as functions: plan runs, carry them out, measure their latency, write the leaderboard."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from bench.comparison.results.values import TableResult
from bench.comparison.tables import TableKey, table_key
from bench.config import DEFAULT_MODELS, RunConfig, Value
from bench.latency.measure import measure_all
from bench.latency.protocol import QUICK
from bench.leaderboard import page
from bench.leaderboard.terminal import measured_lines
from bench.recipes import configs_of
from bench.records.environment import read_environment
from bench.records.paths import Paths, check_writable, keep_from_data
from bench.records.schema import RunRecord, Tuning
from bench.records.store import read_records
from bench.runs.images import audited, remember_place
from bench.runs.local import Train, decide_here, train_here
from bench.runs.plan import Decide, Task, make_task, plan_data, unique
from imgcls.config import RuntimeConfig, StoreConfig
from imgcls.data.audit import Audit
from imgcls.data.sources.locations import local
from imgcls.data.stores.choice import DEFAULT as DEFAULT_STORE
from imgcls.devices import unusable_gpu
from imgcls.errors import ConfigError
from imgcls.files import default_cache
from imgcls.messages import Message, Setting
from imgcls.models.model_names import names_weights
from imgcls.models.registry import Specs, at_size, resolve_specs, timm_name_of, weights_policy
from imgcls.models.weights import random_weights

LOGGER = logging.getLogger(__name__)

GROUP: Final = "group"
"""Usual name of the column of a table that says which images are not independent."""


def run_all(  # noqa: PLR0913 - the flags of the command
    models: Sequence[str] = DEFAULT_MODELS,
    *,
    data: str | Path = "digits",
    labels: str | Path | None = None,
    recipe: str | None = None,
    seeds: Sequence[int] = (0,),
    weights: str | Path = "auto",
    results: str | Path = "results",
    verify: bool = False,
    force: bool = False,
    store: StoreConfig = DEFAULT_STORE,
    **overrides: Value,
) -> TableResult:
    """Train, evaluate, export and measure models under one budget; write the leaderboard and return its table.

    Each run is a process of its own. ``recipe`` is by default quick for the digits, and finetune for other data.
    With ``verify`` the data are recognised by all bytes of their files. ``store`` says where their pixels come from.
    ``overrides`` are fields of the configs in ``bench.config.RunConfig``, such as ``epochs=5``. Runs that are already
    done are not repeated. The table also holds earlier runs of the same data, split, budget and machine. A failed run
    is a row with its reason.

    Raises ConfigError or DataError for a wrong argument, before anything runs.
    """
    configs = configs_of(models, data=str(data), recipe=recipe, seeds=seeds, overrides=overrides)
    plan = planner(
        configs,
        data=str(data),
        labels=None if labels is None else str(labels),
        weights=str(weights),
        results=Path(results),
        verify=verify,
        store=store,
    )
    tasks = unique([plan(config, force=force) for config in configs])
    check_writable(Path(results))
    return carry_out(tasks).table


class Planner(Protocol):
    """A function that returns the task of a config, with the data, weights and machine of one command."""

    def __call__(self, config: RunConfig, *, force: bool = False, tuning: Tuning | None = None) -> Task:
        """Plan one run; raises ConfigError for invalid settings."""


def planner(  # noqa: PLR0913 - what the runs of a command share
    configs: Sequence[RunConfig],
    *,
    data: str,
    labels: str | None = None,
    weights: str,
    results: Path,
    verify: bool = False,
    threads: int = 0,
    cuda: bool | None = None,
    devices: int | None = None,
    decide: Decide | None = None,
    store: StoreConfig = DEFAULT_STORE,
) -> Planner:
    """Check the models, choose the weights, and audit and split the data, once for all runs of a command.

    With ``verify`` a stored audit is found by all bytes of the files. Training uses ``threads`` CPU threads (0: all
    cores) unless a config has its own number. ``cuda`` is whether the machine that trains has a GPU, and ``decide``
    chooses its precision; None: the same as this machine. Raises ConfigError or DataError for a wrong argument.
    """
    paths = Paths(results=results.absolute(), cache=default_cache().absolute())
    specs = _specs(configs, weights)
    given = data if labels is None else f"{data} --labels {labels}"
    # Once for all runs; what is stored of the place of the images needs no network later.
    data = local(data, cache=paths.cache)
    keep_from_data(paths.results, data)
    # Tasks name a folder of weights by its last part, and so do the settings that a study found.
    by_name = {spec.name: spec for spec in specs.values()}
    _, audit = audited(data, paths.cache, labels=labels, verify=verify)
    _log_audit(audit, configs, given)
    plans = {split: plan_data(audit, split, data=data, labels=labels) for split in {config.split for config in configs}}
    environment = read_environment()
    if cuda is None and any(config.train.device == "auto" for config in configs) and (reason := unusable_gpu()):
        LOGGER.warning("training on the CPU: %s", reason)

    def plan(config: RunConfig, *, force: bool = False, tuning: Tuning | None = None) -> Task:
        train = replace(config.train, train_threads=config.train.train_threads or threads)
        # A tuned setting may have a batch or a size of its own.
        spec = specs.get((config.model, config.loader)) or at_size(by_name[config.model], config.loader.image_size)
        return make_task(
            replace(config, train=train),
            plans[config.split],
            spec=spec,
            environment=environment,
            paths=paths,
            force=force,
            tuning=tuning,
            cuda=cuda,
            devices=devices,
            decide=decide or partial(decide_here, paths=paths),
            store=store,
        )

    return plan


def _specs(configs: Sequence[RunConfig], weights: str) -> Specs:
    """Resolve the models of configs; raises ConfigError, with a line for each model that cannot be used."""
    models = [(config.model, config.loader) for config in configs]
    names = {model: timm_name_of(model) for model, _ in models}
    # With random weights first, so that a wrong name or size is reported before weights are downloaded.
    if weights.partition("@")[0] in {"auto", "pretrained"}:
        untagged = [(model, loader) for model, loader in models if not names_weights(names[model])]
        resolve_specs(untagged, random_weights)
    return resolve_specs(models, weights_policy(weights, names.values()))


def _log_audit(audit: Audit, configs: Sequence[RunConfig], flags: str) -> None:
    LOGGER.info(str(audit))
    if audit.removed:
        LOGGER.info("skipped files and reasons: python -m bench audit %s", flags)
    if GROUP in audit.columns and all(config.split.group_by is None for config in configs):
        text, hint = "the label table has a 'group' column that is not used; add ", " to keep related images together"
        LOGGER.warning(Message((text, Setting("group_by", GROUP), hint)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """Result of carrying out tasks: whether every run and measurement succeeded, and the table of the runs."""

    ok: bool
    table: TableResult


def carry_out(tasks: Sequence[Task], train: Train = train_here) -> Finished:
    """Carry out the tasks that are not done, measure latency and write the leaderboard. The tasks are of one table."""
    for line in tasks[0].dataset.missing:
        LOGGER.warning(line)
    records = train(tasks)
    done = [record for record in records if record.status == "ok"]
    results = tasks[0].paths.results
    _warn_of_others(done)
    for task in tasks:
        remember_place(task)
    ok = len(done) == len(records)
    # After all trainings, because a measurement needs the machine alone.
    # The other records are read only if these alone leave something to measure: a folder may hold thousands.
    stored = read_records(results) if _waiting(done, done) else done
    for runtime, waiting in _waiting(done, stored):
        measured = measure_all(waiting, tasks[0].paths, protocol=QUICK, runtime=runtime, known=stored)
        for line in measured_lines(measured):
            LOGGER.info(line)
        ok = ok and measured.ok
    # A results folder may hold other tables too.
    run_ids = {task.run_id for task in tasks}
    board = page.publish(tasks[0].paths)
    table = next((table for table in board.results if run_ids & {*table.run_ids}), None)
    if table is None:
        raise ConfigError(next(reason for key, reason in board.made.refused if key in set(map(table_key, records))))
    return Finished(ok=ok, table=table)


def _warn_of_others(records: Sequence[RunRecord]) -> None:
    # An ensemble has no training of its own.
    trained = [record for record in records if record.ensemble is None]
    trainings = [(record.config.model, record.outcome.training) for record in trained if record.outcome]
    shares = [(model, training.others_share or 0.0) for model, training in trainings if training.disturbed]
    if shares:
        LOGGER.warning(
            "other processes used up to %.0f %% of the CPU during training (%s): training times and images/s are not "
            "those of this machine alone",
            100 * max(share for _, share in shares),
            ", ".join(dict.fromkeys(model for model, _ in shares)),
        )


def _waiting(records: Sequence[RunRecord], stored: Sequence[RunRecord]) -> list[tuple[RuntimeConfig, list[RunRecord]]]:
    """Group the records to measure by the runtimes that their networks lack; failed measurements are repeated.

    A network is measured once, whatever the setting, seed or fold. ``stored`` are all records of the results folder:
    what any run of the same table has measured, by either protocol, counts for its network.
    """
    measured: defaultdict[tuple[TableKey, str | None], set[tuple[str, int | None]]] = defaultdict(set)
    for record in stored:
        measured[_timed_once(record)] |= {
            (row.runtime, row.num_threads) for row in record.measurements if row.samples_ms
        }
    # In groups, because models that are compared should be timed in the same rounds.
    waiting: defaultdict[RuntimeConfig, list[RunRecord]] = defaultdict(list)
    for record in records:
        config, timed = record.config.runtime, measured[_timed_once(record)]
        if lacking := tuple(name for name in config.runtimes if (name, config.threads) not in timed):
            waiting[replace(config, runtimes=lacking)].append(record)
            timed |= {(name, config.threads) for name in lacking}
    return list(waiting.items())


def _timed_once(record: RunRecord) -> tuple[TableKey, str | None]:
    """Return what is measured once: a network, in each table, because a table shows figures of its own runs only."""
    return table_key(record), record.network
