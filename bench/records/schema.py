"""The record of a run: its schema, version 5."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from bench.config import RunConfig
from bench.records.environment import Environment
from bench.records.measurements import Check, Measurement
from imgcls.evaluation.results import Calibration, Parity
from imgcls.models.operators import missing_products
from imgcls.training.events import EpochResult, FitMethod

SCHEMA_VERSION: Final = 5
# 1: the first version.
# 2: added schedule, select, weight_decay and label_smoothing to config.train (version 1 is read with plateau, best, 0
#    and 0, which are their defaults); added tuning.
# 3: added kind, settings, rounds and disturbance to measurements; added checks; added mean error, cosine and paired
#    counts to parity. Older versions are read without them.
# 4: added folds to config.split and their digest; added calibration and test_scorings.
# 5: identity omits fields at their frozen default (``bench.records.ids``); added config.budget and config.overrides;
#    split the verdict of a measurement into status, validity and protocol, and added its session; latency is keyed by
#    the machine that measured; added derived_from; the npz file has log-probabilities, raw and calibrated, and groups.
# ``bench.records.reading.history`` upgrades older versions to this one.


DISTURBING_SHARE: Final = 0.1

UNGROUPED: Final = "duplicates"
"""What the images of a group have in common without ``--group-by``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """The data of a run: digests, classes, numbers of images, and the number of skipped files by reason.

    ``counts`` holds the images of each class, by split. ``folds_digest`` is the same for all folds of one division.
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
    test_leaks: int | None = None
    """Test images with a duplicate or near-duplicate in train or val; None in records that did not count them."""
    leaks_dropped: int = 0
    """Images removed from train and val by ``--drop-leaks``."""
    grouped_by: str = UNGROUPED
    """What the images of one group in the npz file have in common; they are not independent."""
    given_split: bool | None = None
    """Whether the test split is the data set's own; None in records that say so in ``split_source`` only."""

    @property
    def has_given_split(self) -> bool:
        """Whether the test split is the data set's own."""
        return self.split_source.startswith("given") if self.given_split is None else self.given_split


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """The network and its initial weights; ``gmacs`` is in 1e9 multiply-accumulate operations (MACs) per image."""

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
    # Stored, because the MACs of these are missing from ``gmacs``.
    uncounted_operators: dict[str, int]
    weights_revision: str | None = None
    """Commit of the hub's repository that the weights are from; None for others, and in records without it."""
    train_num_params: int | None = None
    """Parameters of the network that is trained, whose branches may be merged for use; None in older records."""
    train_gmacs: float | None = None
    """As ``gmacs``, of the network that is trained; None in older records."""
    counting: int = 1
    """Version of the method that counted ``gmacs``; 1 skipped fused attention and recurrent layers."""

    @property
    def training_gmacs(self) -> float:
        """1e9 MACs of a forward pass in training."""
        return self.gmacs if self.train_gmacs is None else self.train_gmacs

    @property
    def uncounted_products(self) -> list[str]:
        """The uncounted operators that contain matrix products; with any, ``gmacs`` is a lower bound."""
        return missing_products(self.uncounted_operators)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingInfo:
    """The cost of training; ``resumed_from`` lists the epochs after which it was interrupted and resumed."""

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
    others_share: float | None = None
    """Share of all cores' time that other processes used during training; None in records that did not measure it."""

    head_time_s: float = 0.0
    """Part of ``train_time_s``: the classifier pre-fit before the first epoch; 0 without one."""
    head_images: int | None = None
    """Images that passed the frozen layers for that fit; None in records that did not count them."""
    classifier_fit: FitMethod = "linear"
    """How the classifier alone was fitted: as linear heads, or by gradient, where it does not consist of these."""

    @property
    def disturbed(self) -> bool:
        """Whether other processes used so much of the CPU that the training time is not that of this machine alone."""
        return self.others_share is not None and self.others_share > DISTURBING_SHARE


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Metrics by name on train, val (which selected the epoch) and test (scored once)."""

    val_metrics: dict[str, float]
    test_metrics: dict[str, float]
    # In the record, so that scores of classes and their intervals do not need the predictions.
    test_confusion_matrix: tuple[tuple[int, ...], ...]
    calibration: Calibration | None = None
    train_metrics: dict[str, float] = field(default_factory=dict)
    """On as many random train images as there are in val, without augmentation; empty in records without them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactInfo:
    """The exported ONNX file and its parity with the trained model on the whole test split.

    ``sha256`` is that of the ONNX file; that of the checkpoint is None in records of earlier versions.
    """

    size_bytes: int
    checkpoint_size_bytes: int
    sha256: str
    parity: Parity
    checkpoint_sha256: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The study that selected the setting of a tuned run, its cost, and the default ``base`` that it is compared with.

    The accuracies are top-1 on val, of trials of the study. ``tmacs`` is the training compute of all trials in 1e12
    MACs, estimated as 3 x forward x images.
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
class Finalist:
    """A model at an image size in pixels."""

    model: str
    image_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceRound:
    """A round of a race: what it trained, the candidates that finished it, those that left after it, and its seconds.

    ``level`` is that of its tests; 0: it has none. Those that left by budget include the ones for which there was no
    time in the next round.
    """

    name: str
    candidates: int
    failed: int
    worse: int
    by_budget: int
    seconds: float
    level: float
    least_groups: int | None = None
    """Independent val images without which none of its candidates can be significantly worse; None without a test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The race that chose a run's model and image size, by its scores on val.

    ``by_latency`` is the number of candidates that left by latency, and ``failed`` of those that could not be exported
    or measured. ``val_groups`` of the val images are independent. ``missed`` is the probability that a candidate that
    left by budget would have been the best in the last round. The finalists are ordered by their accuracy on val, the
    best first.
    """

    name: str
    minutes: float
    candidates: int
    limit_ms: float | None
    runtime: str
    by_latency: int
    failed: int
    screening_s: float
    rounds: tuple[RaceRound, ...]
    val_images: int
    val_groups: int
    missed: float
    finalists: tuple[Finalist, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A run whose network is part of an ensemble, and the weight of its probabilities; weights sum to 1."""

    run_id: str
    train_id: str
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ensemble:
    """How an ensemble was made: the rule that set the weights of its members, and the rows that were candidates.

    soft: equal weights; fitted: those with the lowest log loss on val; greedy: selection with replacement by the
    accuracy on val (Caruana et al. 2004).
    """

    rule: Literal["soft", "fitted", "greedy"]
    candidates: tuple[str, ...]
    """Their names when the ensemble was made; rows that are added later may change the names of rows."""
    members: tuple[Member, ...]
    candidate_ids: tuple[str, ...] = ()
    """Their row ids; empty in records that do not have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The results of training, evaluation and export, stored with the artifacts and shared by records of a training."""

    # Its environment is that of the machine that trained, which may differ from that of the record.

    environment: Environment
    model: ModelInfo
    training: TrainingInfo
    metrics: Scores
    artifact: ArtifactInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Measurements and checks of a run's artifacts on one machine, which need not be the one that trained."""

    environment: Environment
    measurements: tuple[Measurement, ...] = ()
    checks: tuple[Check, ...] = ()


def network_id(timm_name: str, *, image_size: int, classes: int) -> str:
    """Return the id of a network: its architecture without the tag of its weights, input size, and classes."""
    # A reference such as hf-hub:owner/name has no tag after a dot.
    architecture = timm_name if ":" in timm_name else timm_name.partition(".")[0]
    return f"{architecture}, {image_size} px, {classes} classes"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A run. A failed one has an ``error`` and no ``outcome``.

    ``derived_from`` holds the ids of the runs in whose table this one is (a tuned run's default). ``latency`` is keyed
    by the machine that measured. ``test_scorings`` is how often the training was scored on test, including repetitions
    by ``--force``.
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
    ensemble: Ensemble | None = None
    """Of an ensemble, whose config is that of its first member, except the name of the model."""
    selection: Selection | None = None
    """The race of which this run is a finalist; None if its model was not chosen by one."""
    # Before version 4 scorings were not counted, and a record was scored at least once.
    test_scorings: int = 1
    predictions_sha256: str | None = None
    """Digest of the npz file with the test predictions; None in records without it."""

    @property
    def finished(self) -> Outcome:
        """The outcome of a run that is known not to have failed."""
        assert self.outcome is not None, "a failed run has none"
        return self.outcome

    @property
    def network(self) -> str | None:
        """The id of the network, which a latency belongs to; None of a failed run. Each ensemble has one of its own.

        Weights, seed, fold, hyperparameters, frozen layers, loss and dropout do not change the time of a forward pass.
        """
        if self.outcome is None:
            return None
        if self.ensemble is not None:
            return self.train_id
        model = self.outcome.model
        return network_id(model.timm_name, image_size=model.image_size, classes=len(self.dataset.class_names))

    @property
    def base(self) -> RunConfig:
        """The config that determines the table: the default of the study for a tuned run, else the run's own."""
        return self.tuning.base if self.tuning else self.config

    def on(self, machine: str) -> Latency:
        """Return the measurements and checks of a machine; without any if it has not measured this run."""
        return self.latency.get(machine, Latency(environment=self.environment))

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """The measurements of the machine of this record."""
        return self.on(self.environment.machine).measurements

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the machine of this record."""
        return self.on(self.environment.machine).checks

    def with_latency(self, found: Latency) -> "RunRecord":
        """Return this record with ``found`` in place of the earlier measurements of that machine."""
        return replace(self, latency=self.latency | {found.environment.machine: found})


LATENCY_FILE_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyFile:
    """Latency of a run's copied artifacts, measured on one machine; a file that goes back to the training machine.

    ``onnx_sha256`` is the digest of the exported file that was measured.
    """

    schema_version: int
    run_id: str
    train_id: str
    onnx_sha256: str
    latency: Latency
