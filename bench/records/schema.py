"""The record of a run: its schema, version 5."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from bench.config import RunConfig
from bench.records.environment import Environment
from bench.records.measurements import Check, Measurement
from imgcls.evaluation.results import Calibration, ClassScore, Parity
from imgcls.training.events import EpochResult

SCHEMA_VERSION: Final = 5
# 1: first.
# 2: config.train has schedule, select, weight_decay and label_smoothing (before: plateau, best, 0, 0, which are their
#    defaults); tuning. Records of version 1 are read as such.
# 3: measurements have a kind, settings, rounds and disturbance; checks; parity has mean error, cosine and paired
#    counts. Older ones are read with these left empty.
# 4: folds in config.split and a digest of them; calibration; how often test was scored.
# 5: identity omits what stands at a frozen default (``bench.records.ids``); config.budget and config.overrides;
#    status, validity and protocol of a measurement apart, and its session; latency by the machine that measured;
#    derived_from; the npz has log-probabilities, raw and calibrated, and groups.
# ``bench.records.history`` reads older versions as this one.


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """The data of a run: digests, classes, images a class and split, and which files were skipped and why.

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
