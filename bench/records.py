"""The record of a run: its schema, its ids, writing whole or not at all, reading back."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from bench.config import RunConfig
from bench.environment import Environment
from bench.history import upgrade_record
from bench.measurements import Check, Measurement
from imgcls.results import Calibration, ClassScore, EpochResult, Parity

SCHEMA_VERSION: Final = 5
# 1: first.
# 2: config.train has schedule, select, weight_decay and label_smoothing (before: plateau, best, 0, 0, which are their
#    defaults); tuning. Records of version 1 are read as such.
# 3: measurements have a kind, settings, rounds and disturbance; checks; parity has mean error, cosine and paired
#    counts. Older ones are read with these left empty.
# 4: folds in config.split and a digest of them; calibration; how often test was scored.
# 5: identity leaves out what stands at a frozen default (``bench.ids``); config.budget and config.overrides; status,
#    validity and protocol of a measurement apart, and its session; latency by the machine that measured; derived_from;
#    the npz has log-probabilities, raw and calibrated, and groups. ``bench.history`` reads older versions as this one.

OUTCOME: Final = "outcome.json"
"""Written last: its existence means that training, evaluation and export are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """The data of a run: digests, classes, images a class and split, and what was left out and why.

    ``folds_digest`` is the same for all folds of one division.
    """

    name: str
    digest: str
    split_digest: str
    split_source: str
    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    removed: dict[str, int]
    undersampled: int
    duplicate_groups: int
    duplicates_across_splits: int
    missing: tuple[str, ...]
    folds_digest: str | None = None
    grouped_by: str = "duplicates"
    """What the images of one group in the npz have in common: they are not independent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """The network and what it started from; ``gmacs`` are 1e9 fused multiply-adds an image."""

    name: str
    timm_name: str
    init: str
    weights_tag: str
    weights_sha256: str | None
    image_size: int
    interpolation: str
    crop_pct: float | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: tuple[str, ...]
    num_params: int
    gmacs: float
    uncounted_operators: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingInfo:
    """What training cost; ``resumed_from`` lists the epochs after which it was stopped and went on."""

    epochs: int
    steps: int
    best_epoch: int
    resumed_from: tuple[int, ...]
    train_time_s: float
    eval_time_s: float
    train_img_per_s: float
    num_threads: int
    device: str
    memory_format: str
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    history: tuple[EpochResult, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Metrics by name on val (which selected the epoch) and on test (scored once)."""

    val_metrics: dict[str, float]
    test_metrics: dict[str, float]
    test_per_class: tuple[ClassScore, ...]
    test_confusion_matrix: tuple[tuple[int, ...], ...]
    calibration: Calibration | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactInfo:
    """The ONNX file and its agreement with the trained model on the whole test split."""

    opset: int
    size_bytes: int
    checkpoint_size_bytes: int
    sha256: str
    parity: Parity


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The study that chose a tuned run's setting, what it cost, and ``base``, the default it stands beside.

    Scores are of the study's own trials, on val: top-1 accuracy. ``tmacs`` are 1e12 fused multiply-adds of training,
    3 x forward x images.
    """

    study: str
    base: RunConfig
    hyperparameters: dict[str, int | float]
    trial: int
    trials: int
    pruned: int
    failed: int
    tmacs: float
    trial_time_s: float
    val_top1_accuracy: float
    default_val_top1_accuracy: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What training, evaluation and export gave; kept with the artifacts, shared by records of one training."""

    environment: Environment
    model: ModelInfo
    training: TrainingInfo
    metrics: Scores
    artifact: ArtifactInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """What one machine, which may be another than the one that trained, measured of a run's artifacts."""

    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run. A failed one has an error, and an outcome of None.

    ``derived_from``: ids of the runs in whose table this one stands (a tuned run's default). ``latency``: by the
    machine that measured. ``test_scorings``: how often this run's training was scored on test, repetitions by
    ``--force`` included.
    """

    schema_version: int
    run_id: str
    train_id: str
    status: Literal["ok", "failed"]
    started_at: str
    duration_s: float
    error: str | None
    config: RunConfig
    environment: Environment
    dataset: DatasetInfo
    init: str
    derived_from: tuple[str, ...] = ()
    tuning: Tuning | None = None
    outcome: Outcome | None = None
    latency: dict[str, Latency] = field(default_factory=dict)
    test_scorings: int = 1

    @property
    def base(self) -> RunConfig:
        """The setting whose budget this run was given: a tuned run stands beside the default that it started from."""
        return self.tuning.base if self.tuning else self.config

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurements of the machine that trained, or else of the first that measured."""
        return self._shown.measurements

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the same machine."""
        return self._shown.checks

    @property
    def _shown(self) -> Latency:
        here = self.latency.get(self.environment.machine)
        return here or next(iter(self.latency.values()), Latency(environment=self.environment))

    def with_latency(self, found: Latency) -> "RunRecord":
        """Return this record with all that one machine has measured in place of what it had."""
        return replace(self, latency=self.latency | {found.environment.machine: found})


def to_json(content: object) -> str:
    """Give JSON text; a NaN or an infinity is a bug and raises ValueError."""
    return json.dumps(msgspec.to_builtins(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_json(content: object, path: Path) -> None:
    """Write content as JSON, whole or not at all."""
    write_text(to_json(content), path)


def write_text(text: str, path: Path) -> None:
    """Write a text file whole or not at all; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def record_path(results: Path, record: RunRecord) -> Path:
    """Give the place of a record: ``records/<machine>/<run_id>.json``."""
    return results / "records" / record.environment.machine / f"{record.run_id}.json"


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
Versioned = TypeVar("Versioned")


def read_versioned(path: Path, kind: type[Versioned], *, key: str, version: int, upgrade: Upgrade) -> Versioned:
    """Read what ``write_json`` wrote, of ``version`` or, through ``upgrade``, of an older one.

    Raises ValueError if the file is cut short, or of a version that this code does not know.
    """
    data = path.read_bytes()
    try:
        found = msgspec.json.decode(msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get(key, b"null"))
        if found == version:
            return msgspec.json.decode(data, type=kind)
        if not isinstance(found, int) or not 1 <= found < version:
            message = f"{key.replace('_', ' ')} {found}, this code reads 1 to {version}"
            raise ValueError(message)
        return msgspec.convert(upgrade(msgspec.json.decode(data)), type=kind)
    except msgspec.MsgspecError as error:
        message = f"not a whole record ({error})"
        raise ValueError(message) from error


def read_record(path: Path) -> RunRecord:
    """Read one record of this schema or of an older one; raises ValueError if it cannot be read."""
    return read_versioned(path, RunRecord, key="schema_version", version=SCHEMA_VERSION, upgrade=upgrade_record)


def read_if_whole(path: Path) -> RunRecord | None:
    """Read one record, or give None where there is none that can be read."""
    try:
        return read_record(path)
    except (OSError, ValueError):
        return None


def read_records(results: Path, *, warn: Callable[[str], None]) -> list[RunRecord]:
    """Read all records of a results folder, in order of path; an unreadable one is named and skipped."""
    records = []
    for path in sorted((results / "records").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except (ValueError, OSError) as error:
            warn(f"skipped {path.relative_to(results).as_posix()}: {error}")
    return records
