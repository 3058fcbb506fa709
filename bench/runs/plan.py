"""Planning: make tasks from a data set and configs. Invalid settings are reported here, before any run starts."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from bench.config import RunConfig, with_precision, with_values
from bench.recipes import for_weights
from bench.records.environment import Environment
from bench.records.ids import hash_of, identity
from bench.records.paths import Paths
from bench.records.schema import SCHEMA_VERSION, UNGROUPED, DatasetInfo, Ensemble, Outcome, RunRecord, Tuning
from bench.records.store import read_if_whole
from bench.runs.artifacts import whole_outcome
from imgcls.config import SPLITS, LoaderConfig, Precision, SplitConfig, StoreConfig, TrainConfig
from imgcls.data.audit import Audit
from imgcls.data.augment import POLICIES
from imgcls.data.groups import apart
from imgcls.data.splits import Splits, class_counts, make_splits, missing_classes
from imgcls.data.stores.choice import DEFAULT as DEFAULT_STORE
from imgcls.data.stores.choice import Store, choose_store
from imgcls.data.stores.jpeg import SETTING as JPEG
from imgcls.devices import unusable_gpu, usable_cuda
from imgcls.errors import ConfigError
from imgcls.files import write_text
from imgcls.inference.runtimes import check_runtimes, default_runtimes, threads_allowed
from imgcls.messages import Setting
from imgcls.models.building import require_pretrained
from imgcls.models.registry import ModelSpec
from imgcls.training.plan import resolve_train

AnyTask = TypeVar("AnyTask")

Decide = Callable[[ModelSpec, LoaderConfig, TrainConfig], Precision]
"""Returns the precision of a training on the machine that will train."""

Source = list[list[str | None]]
"""Identity of the weights that a run starts from, and of its data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One run, as its process receives it; ``data`` and ``paths`` are of one machine and not in the record."""

    run_id: str
    train_id: str
    config: RunConfig
    spec: ModelSpec
    dataset: DatasetInfo
    environment: Environment
    data: str
    paths: Paths
    labels: str | None = None
    store: Store = "pixels"
    """Where the pixels come from on this machine; the results are the same, except of what ``config.store`` names."""
    force: bool = False
    derived_from: tuple[str, ...] = ()
    tuning: Tuning | None = None
    adjusts: str | None = None
    """Training whose logits are adjusted (``imbalance`` post-hoc); None: the run trains."""
    ensemble: Ensemble | None = None
    """Members whose finished trainings are combined; None: the run trains."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """A training whose precision is to be decided, as a process receives it."""

    spec: ModelSpec
    loader: LoaderConfig
    train: TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPlan:
    """An audited data set, its division by one split config, its path or name, and its table of labels, if any."""

    data: str
    labels: str | None
    audit: Audit
    splits: Splits


def plan_data(audit: Audit, config: SplitConfig, *, data: str, labels: str | None = None) -> DataPlan:
    """Split an audited data set."""
    return DataPlan(data=data, labels=labels, audit=audit, splits=make_splits(audit, config))


def own_precision(_spec: ModelSpec, _loader: LoaderConfig, train: TrainConfig) -> Precision:
    """Return the precision of a training that is not ``auto``."""
    assert train.precision != "auto", "who plans for a recipe with auto must say where it is decided"
    return train.precision


def make_task(  # noqa: PLR0913 - a task is made of these
    config: RunConfig,
    plan: DataPlan,
    *,
    spec: ModelSpec,
    environment: Environment,
    paths: Paths,
    force: bool = False,
    tuning: Tuning | None = None,
    cuda: bool | None = None,
    devices: int | None = None,
    decide: Decide = own_precision,
    store: StoreConfig = DEFAULT_STORE,
) -> Task:
    """Resolve device, threads, runtimes, precision and identity of one run; ``spec`` is that of the config's model.

    ``cuda`` is whether the machine that trains has a GPU; None: the same as this machine. ``decide`` chooses between
    the precisions there. Raises ConfigError for invalid settings.
    """
    config = _resolve(replace(config, dataset=plan.audit.name), cuda=cuda, devices=devices)
    # The name of a folder instead of its path, which is of this machine.
    config = _fitting(replace(config, model=spec.name), spec, decide)
    # Frozen features of one view are of images without augmentation. A classifier that has to be fitted by gradient
    # after all (``fit_head``) is augmented; whether it has to is not known before the training.
    if not spec.structure.heads or (config.train.tune_layers, config.train.feature_views) != ("head", 1):
        config = replace(config, augmentation_version=POLICIES[config.train.augmentation].version)
    chosen = choose_store(plan.audit, spec.resize, cache=paths.cache, config=store)
    config = _stored_as(config, JPEG if chosen == "jpeg" else None)
    dataset = dataset_info(plan.audit, plan.splits, config.split)
    source: Source = [
        [spec.timm_name, spec.weights.init, spec.weights.tag, spec.weights.sha256],
        [dataset.digest, dataset.split_digest],
    ]
    run_id, train_id = ids_of(config, source, environment.machine, tuning)
    derived_from: tuple[str, ...] = ()
    adjusts = None
    if config.train.imbalance == "post-hoc":
        plain, adjusts = ids_of(with_values(config, {"imbalance": "none"}), source, environment.machine, tuning)
        derived_from = (plain,)
    return Task(
        run_id=run_id,
        train_id=train_id,
        config=config,
        spec=spec,
        dataset=dataset,
        environment=environment,
        data=plan.data,
        labels=plan.labels,
        paths=paths,
        store=chosen,
        force=force,
        tuning=tuning,
        derived_from=derived_from,
        adjusts=adjusts,
    )


def _stored_as(config: RunConfig, stored: str | None) -> RunConfig:
    """Return a config that names what train images are stored as, also in its setting; None: exact pixels."""
    others = {name: value for name, value in config.overrides.items() if name != "store"}
    return replace(config, store=stored, overrides=others | ({"store": stored} if stored is not None else {}))


def _fitting(config: RunConfig, spec: ModelSpec, decide: Decide) -> RunConfig:
    """Return a config without what its initial weights do not allow, and with a precision; raises ConfigError."""
    config = for_weights(config, spec.weights.init)
    if config.train.tune_layers != "all":
        require_pretrained(spec)
    if config.train.imbalance == "post-hoc" and not spec.structure.heads:
        reason = f": {spec.name} does not end in linear classifiers; use logit-adjustment"
        raise ConfigError(Setting("imbalance", "post-hoc"), reason)
    precision = config.train.precision
    # Every device has float32, so that nothing is asked.
    return with_precision(config, "fp32" if precision == "fp32" else decide(spec, config.loader, config.train))


def ids_of(config: RunConfig, source: Source, machine: str, tuning: Tuning | None) -> tuple[str, str]:
    """Return the hash of everything that a run depends on, and that of what its training reads.

    ``source`` identifies the weights and the data. Runs that differ only in what is timed share a training.
    """
    # Without the overrides, which the other fields determine. With the study, because the best setting of a study can
    # be the default, which has a row of its own.
    budget = config.budget
    # Plans have a whole number of epochs; one that is read from a record is a float, and must have the same hash.
    if budget.quantity == "epochs" and budget.amount is not None:
        budget = replace(budget, amount=int(budget.amount))
    settings = identity(replace(config, overrides={}, train=_hashed(config.train), budget=budget))
    run_id = hash_of([settings, *source, machine, *([tuning.study] if tuning else [])])
    # With the machine, so that in a shared results folder no run has the training time of another machine.
    parts = [identity(part) for part in (config.loader, config.architecture, _hashed(config.train))]
    parts += [] if config.store is None else [{"store": config.store}]
    # The first version stands in no id, as older records have it.
    versions = [f"augmentation {version}"] if (version := config.augmentation_version) > 1 else []
    return run_id, hash_of([[config.model, config.seed, *parts, machine, *versions], *source])


def _hashed(train: TrainConfig) -> TrainConfig:
    """Return a config for ids: on CUDA, where bf16 was used before there was a choice, fp32 is what changes an id."""
    if not train.norms_per_process:
        # The result is the same, so that an interrupted training is resumed by another number of devices.
        train = replace(train, devices=1)
    if train.device != "cuda" or train.precision == "fp16":
        return train
    return replace(train, precision="fp32" if train.precision == "bf16" else "bf16")


def _resolve(config: RunConfig, *, cuda: bool | None, devices: int | None) -> RunConfig:
    """Replace ``auto`` and 0 by the values of the machine, so that the record contains what was used."""
    usable = usable_cuda() if cuda is None else cuda
    refused = cuda is None and not usable and config.train.device == "cuda"
    unusable = unusable_gpu() if refused else None
    size = config.loader.batch_size
    train = resolve_train(config.train, cuda=usable, unusable=unusable, available=devices, batch_size=size)
    check_runtimes(config.runtime.runtimes)
    # The GPU of this machine and not ``cuda``: latency is measured here, wherever the run trains.
    runtimes = config.runtime.runtimes or default_runtimes(cuda=usable_cuda())
    return replace(
        config,
        train=train,
        runtime=replace(config.runtime, runtimes=runtimes, threads=threads_allowed(config.runtime.threads)),
    )


def dataset_info(audit: Audit, splits: Splits, config: SplitConfig) -> DatasetInfo:
    """Return the description of a run's data for its record."""
    counts = {name: tuple(class_counts(audit, getattr(splits, name))) for name in SPLITS}
    audit = audit if config.near_duplicates == "group" else apart(audit)
    _, group_sizes = np.unique(audit.images.groups, return_counts=True)
    return DatasetInfo(
        name=audit.name,
        digest=audit.digest,
        split_digest=splits.digest,
        split_source=splits.source,
        class_names=audit.class_names,
        counts=counts,
        removed=dict(sorted(Counter(removal.reason for removal in audit.removed).items())),
        undersampled=len(splits.undersampled),
        duplicate_groups=int((group_sizes > 1).sum()),
        duplicates_across_splits=len(audit.across_splits) if splits.given else 0,
        missing=tuple(missing_classes(audit, splits)),
        folds_digest=splits.folds_digest,
        test_leaks=len(splits.leaks),
        leaks_dropped=len(splits.dropped),
        grouped_by=config.group_by or UNGROUPED,
        given_split=splits.given,
    )


def make_record(
    task: Task, *, started: dt.datetime, duration_s: float, outcome: Outcome | None, error: str | None
) -> RunRecord:
    """Return the record of a task; without an outcome its status is failed."""
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
        ensemble=task.ensemble,
        outcome=outcome,
        test_scorings=0 if outcome is None else 1,
    )


def write_task(task: object, path: Path) -> None:
    """Write a task for its process, readable by this user only, because a storage URL may contain a password."""
    # msgspec does not support Path, which is written as a string here and converted by ``read_task``.
    write_text(json.dumps(msgspec.to_builtins(task, enc_hook=str)), path, mode=0o600)


def read_task(path: Path, kind: type[AnyTask]) -> AnyTask:
    """Return the task that ``write_task`` wrote; ``kind`` is its class."""
    # Not by msgspec's decoder, which refuses the surrogates that stand for bytes of paths in a C locale.
    return msgspec.convert(json.loads(path.read_bytes()), type=kind, dec_hook=_path, str_keys=True)


def _path(kind: type, value: object) -> object:
    assert kind is Path, f"a task holds a {kind}"
    return Path(str(value))


def record_file(task: Task) -> Path:
    """Return the path of a task's record."""
    return task.paths.record(task.environment.machine, task.run_id)


def finished_record(task: Task) -> RunRecord | None:
    """Return the record of a run that succeeded and whose artifacts are in this results folder, else None.

    A record alone, for example from git, is not enough: measurement and prediction need the artifacts, and whole ones.
    """
    record = read_if_whole(record_file(task))
    if record is None or record.status != "ok":
        return None
    return record if whole_outcome(task.paths, task.train_id) is not None else None


def unique(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks in order, each once."""
    return list({task.run_id: task for task in tasks}.values())
