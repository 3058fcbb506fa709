"""From a data set and configs to tasks: everything that can be wrong is found here, before anything runs."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec
import torch

from bench.config import RunConfig
from bench.records.environment import Environment
from bench.records.ids import hash_of, identity
from bench.records.paths import Paths
from bench.records.schema import SCHEMA_VERSION, DatasetInfo, Outcome, RunRecord, Tuning
from bench.records.store import read_if_whole
from imgcls.data.audit import Audit
from imgcls.data.splits import SPLITS, Splits, class_counts, make_splits, missing_classes
from imgcls.files import write_text
from imgcls.inference.runtimes import check_runtimes, default_runtimes, threads_allowed
from imgcls.models.registry import ModelSpec, WeightsFor, resolve_spec
from imgcls.training.setup import resolve_train

AnyTask = TypeVar("AnyTask")

Source = list[list[str | None]]
"""What identifies the weights that a run starts from, and its data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One run as its process gets it; ``data`` and ``paths`` are places and stay out of the record."""

    run_id: str
    train_id: str
    config: RunConfig
    spec: ModelSpec
    dataset: DatasetInfo
    environment: Environment
    data: str
    paths: Paths
    force: bool = False
    derived_from: tuple[str, ...] = ()
    tuning: Tuning | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPlan:
    """An audited data set, how it is divided by one split config, and where it is."""

    data: str
    audit: Audit
    splits: Splits


def plan_data(audit: Audit, config: RunConfig, *, data: str) -> DataPlan:
    """Divide an audited data set as a config says."""
    return DataPlan(data=data, audit=audit, splits=make_splits(audit, config.split))


def make_task(  # noqa: PLR0913 - a task is made of these
    config: RunConfig,
    plan: DataPlan,
    *,
    weights_for: WeightsFor,
    environment: Environment,
    paths: Paths,
    force: bool = False,
    tuning: Tuning | None = None,
    cuda: bool | None = None,
) -> Task:
    """Resolve device, threads, runtimes, weights and identity of one run.

    ``cuda`` says whether there is a GPU where it trains; None means here. Raises ConfigError for what the user got
    wrong.
    """
    config = _resolve(
        replace(config, dataset=plan.audit.name), cuda=torch.cuda.is_available() if cuda is None else cuda
    )
    spec = resolve_spec(config.model, config.loader, weights_for)
    dataset = dataset_info(plan.audit, plan.splits)
    source: Source = [
        [spec.timm_name, spec.weights.init, spec.weights.tag, spec.weights.sha256],
        [dataset.digest, dataset.split_digest],
    ]
    return Task(
        run_id=_run_id(config, source, environment.machine, tuning),
        train_id=_train_id(config, source, environment.machine),
        config=config,
        spec=spec,
        dataset=dataset,
        environment=environment,
        data=plan.data,
        paths=paths,
        force=force,
        tuning=tuning,
    )


def _run_id(config: RunConfig, source: Source, machine: str, tuning: Tuning | None) -> str:
    """Return the hash of all that a run depends on; ``source`` identifies its weights and its data."""
    settings = identity(replace(config, overrides={}))  # they follow from the other fields
    return hash_of([settings, *source, machine, *([tuning.study] if tuning else [])])


def _train_id(config: RunConfig, source: Source, machine: str) -> str:
    """Return the hash of what training alone depends on, so that runs that differ in what is timed share it."""
    read = [identity(part) for part in (config.loader, config.architecture, config.train)]
    return hash_of([[config.model, config.seed, *read, machine], *source])


def _resolve(config: RunConfig, *, cuda: bool) -> RunConfig:
    """Replace ``auto`` and 0 by what the machine has, so that the record says what ran."""
    train = resolve_train(config.train, cuda=cuda)
    check_runtimes(config.runtime.runtimes)
    runtimes = config.runtime.runtimes or default_runtimes(cuda=torch.cuda.is_available())
    return replace(
        config,
        train=train,
        runtime=replace(config.runtime, runtimes=runtimes, threads=threads_allowed(config.runtime.threads)),
    )


def dataset_info(audit: Audit, splits: Splits) -> DatasetInfo:
    """Sum up the data of a run for its record."""
    counts = {name: tuple(class_counts(audit, getattr(splits, name))) for name in SPLITS}
    groups = Counter(image.group for image in audit.images)
    return DatasetInfo(
        name=audit.name,
        digest=audit.digest,
        split_digest=splits.digest,
        split_source=splits.source,
        class_names=audit.class_names,
        counts=counts,
        removed=dict(sorted(Counter(removal.reason for removal in audit.removed).items())),
        undersampled=len(splits.undersampled),
        duplicate_groups=sum(size > 1 for size in groups.values()),
        duplicates_across_splits=len(audit.across_splits),
        missing=tuple(missing_classes(audit, splits)),
        folds_digest=splits.folds_digest,
    )


def make_record(
    task: Task, *, started: dt.datetime, duration_s: float, outcome: Outcome | None, error: str | None
) -> RunRecord:
    """Put together a record; without an outcome it is a failed one."""
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        run_id=task.run_id,
        train_id=task.train_id,
        status="ok" if outcome is not None else "failed",
        started_at=started.isoformat(timespec="seconds"),
        duration_s=round(duration_s, 3),
        error=error,
        config=task.config,
        environment=task.environment,
        dataset=task.dataset,
        init=task.spec.weights.init,
        derived_from=task.derived_from,
        tuning=task.tuning,
        outcome=outcome,
        test_scorings=0 if outcome is None else 1,
    )


def write_task(task: object, path: Path) -> None:
    """Write a task for its process; for this user's eyes only, as a storage's URL may hold a password."""
    write_text(json.dumps(msgspec.to_builtins(task, enc_hook=str)), path, mode=0o600)


def read_task(path: Path, kind: type[AnyTask]) -> AnyTask:
    """Read what ``write_task`` wrote."""
    return msgspec.json.decode(path.read_bytes(), type=kind, dec_hook=_path)


def _path(kind: type, value: object) -> object:
    assert kind is Path, f"a task holds a {kind}"
    return Path(str(value))


def record_file(task: Task) -> Path:
    """Return the place of a task's record."""
    return task.paths.record(task.environment.machine, task.run_id)


def finished_record(task: Task) -> RunRecord | None:
    """Return the record of a run that is done here: it succeeded and its artifacts are in this results folder.

    A record alone, from git or from another machine, has nothing to export, to measure or to ship.
    """
    record = read_if_whole(record_file(task))
    if record is None or record.status != "ok":
        return None
    return record if task.paths.outcome(task.train_id).exists() else None


def unique(tasks: Sequence[Task]) -> list[Task]:
    """Leave out tasks that stand twice."""
    return list({task.run_id: task for task in tasks}.values())
