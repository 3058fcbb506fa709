"""The results of a table as plain values, which can be written as JSON: all that the leaderboard shows."""

from dataclasses import dataclass
from functools import cached_property

from bench.comparison.analysis import Leaks
from bench.comparison.costs import Front, ToAccuracy
from bench.comparison.latencies.figures import Latency
from bench.comparison.latencies.lines import LatencyLines
from bench.comparison.measures import Estimate
from bench.comparison.results.conditions import Conditions, TunedRun
from bench.comparison.scores import SMALL_CLASS, Confusion
from bench.comparison.settings import Kind
from bench.comparison.tables import TableKey, TestedFolds
from bench.records.schema import Selection
from bench.stats.pairs import ALPHA
from bench.stats.power import Power, Sources
from bench.stats.ranks import RankInterval


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointResult:
    """The scores of one seed of a row: a training, or one for each fold. Fractions, nats, seconds, bytes, pixels.

    ``gap`` is val minus test. Values that are not stored, or are no means over folds, are None. ``temperatures`` and
    ``epochs`` (best, of all) are those of each fold; a temperature is None if it could not be fitted. ``expected_ece``
    is mean and 95th percentile of the ECE of a perfectly calibrated model with the same confidences.
    """

    row_id: str
    seed: int
    accuracy: Estimate
    train_accuracy: float | None
    val_accuracy: float
    gap: Estimate | None
    top5: float | None
    macro_f1: Estimate
    balanced: Estimate
    log_loss: float | None
    temperatures: tuple[float | None, ...]
    log_loss_at_t: float | None
    ece: float | None
    expected_ece: tuple[float, float] | None
    epochs: tuple[tuple[int, int], ...]
    img_per_s: tuple[float, ...]
    peak_gpu_memory_bytes: int | None
    size_bytes: int
    image_size: int
    train_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a row has no score: seeds with missing folds, or the last line of the error of each failed seed."""

    incomplete: tuple[str, ...]
    errors: tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """A technique against class imbalance against the same setting without it, on the images of two sets of classes.

    ``holm`` is the p value on the minority classes, adjusted over all techniques of the table by Holm's method.
    ``detectable`` is the minimum detectable difference there, at 80 % power and the level of Holm's first step.
    """

    minority: Estimate
    others: Estimate
    holm: float
    detectable: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RowResult:
    """A row: one setting of one model, with its complete seeds.

    ``measures`` are by key, in base units; empty without a score. ``rank`` and ``probability_best`` are None if the row
    was not compared: predictions are missing, or it has no score. ``weak``: a seed is not significantly better than the
    majority-class baseline. ``derived_from`` holds the ids of the rows that it was tuned or made from. ``uncounted``
    are operators whose matrix products are missing from GMACs. ``recalls`` are by class, None without test images.
    """

    id: str
    name: str
    model: str
    family: str
    setting: tuple[str, ...]
    kind: Kind
    init: str
    imbalance: str
    networks: tuple[str, ...]
    rank: RankInterval | None
    probability_best: float | None
    weak: bool
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    measures: dict[str, Estimate]
    latencies: tuple[Latency, ...]
    recalls: tuple[Estimate | None, ...]
    to_accuracy: tuple[ToAccuracy, ...]
    effect: Effect | None
    uncounted: tuple[str, ...]
    counted_before: bool
    """Whether an earlier method counted its GMACs."""
    derived_from: tuple[str, ...]
    weights_part: str | None
    """The part of the setting that names initial weights other than those of the model's name."""
    failure: Failure

    @property
    def scored(self) -> bool:
        """Whether it has a score on test."""
        return bool(self.measures)

    def latency(self, runtime: str, machine: str) -> Latency:
        """Return the latency on a runtime of a machine, which may be that it was not measured."""
        own = (entry for entry in self.latencies if (entry.runtime, entry.machine) == (runtime, machine))
        return next(own, Latency(machine=machine, runtime=runtime))


@dataclass(frozen=True, kw_only=True, slots=True)
class PairResult:
    """A pair of compared rows by their ids: the first minus the second, with intervals that hold for all pairs.

    ``minority`` is the difference on the images of minority classes; ``disagreement`` and ``double_fault`` are shares
    of images over the seeds that both have. Each is None if the table does not show it.
    """

    first: str
    second: str
    difference: Estimate
    p_value: float
    holm: float
    loss: Estimate | None = None
    loss_holm: float | None = None
    minority: float | None = None
    minority_holm: float | None = None
    disagreement: float | None = None
    double_fault: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the accuracies differ significantly, after Holm's correction over all pairs."""
        return self.holm <= ALPHA

    @property
    def loss_significant(self) -> bool:
        """Whether the log losses differ significantly, after Holm's correction."""
        return self.loss_holm is not None and self.loss_holm <= ALPHA

    @property
    def minority_significant(self) -> bool:
        """Whether the accuracies on minority classes differ significantly, after Holm's correction."""
        return self.minority_holm is not None and self.minority_holm <= ALPHA


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineResult:
    """A machine that has measured latency: its runtimes, and the one on which rows are compared for speed.

    ``reference`` is None if no row has a figure.
    """

    name: str
    runtimes: tuple[str, ...]
    reference: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """The most accurate row and the fastest of its rivals, by row id, on a runtime.

    ``ratio`` is the time of the slow one over that of the fast one within rounds, None if they were not measured in one
    session; ``medians_ms`` are then those of the fast and the slow one, ``quick`` if one is not validated.
    """

    fast: str
    slow: str
    runtime: str
    ratio: Estimate | None
    medians_ms: tuple[float, float]
    quick: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MajorityResult:
    """The majority-class baseline."""

    class_name: str
    accuracy: Estimate
    macro_f1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedSpread:
    """The variance of the logit of accuracy between seeds, pooled over the rows, with its degrees of freedom.

    ``missing`` are those that a prior stands for.
    """

    variance: float
    freedom: int
    missing: int


@dataclass(frozen=True, kw_only=True)
class TableResult:
    """The results of a table. Rows are sorted by accuracy, pairs by their rows; both are referred to by row id.

    ``images`` and ``groups`` are the numbers of test images and of those that are independent. ``checkpoints`` are the
    first of ``num_checkpoints``. ``confusions`` are those of the most accurate row. ``sources`` is about the two most
    accurate rows. ``measured_on`` is the machine whose latency is shown.
    """

    # No slots, as cached_property needs ``__dict__``.
    id: str
    key: TableKey
    run_ids: tuple[str, ...]
    images: int
    groups: int
    class_names: tuple[str, ...]
    test_counts: tuple[int, ...]
    minority_classes: tuple[str, ...]
    minority_images: tuple[int, int] | None
    rows: tuple[RowResult, ...]
    pairs: tuple[PairResult, ...]
    power: Power | None
    about_models: bool
    majority: MajorityResult
    leaks: Leaks | None
    grouped_by: str | None
    near_duplicates_kept: bool
    seed_spread: SeedSpread | None
    sources: Sources | None
    speed: Speed | None
    folds: TestedFolds | None
    measured_on: str
    machines: tuple[MachineResult, ...]
    fronts: tuple[Front, ...]
    checkpoints: tuple[CheckpointResult, ...]
    num_checkpoints: int
    confusions: tuple[Confusion, ...]
    latency: LatencyLines
    conditions: Conditions
    tuned: tuple[TunedRun, ...]
    selections: tuple[Selection, ...] = ()
    """The races whose finalists are rows of this table."""

    @cached_property
    def by_id(self) -> dict[str, RowResult]:
        """The rows by their ids."""
        return {row.id: row for row in self.rows}

    @cached_property
    def _pairs(self) -> dict[tuple[str, str], PairResult]:
        return {(pair.first, pair.second): pair for pair in self.pairs}

    @property
    def scored(self) -> list[RowResult]:
        """The rows with a score."""
        return [row for row in self.rows if row.scored]

    @property
    def compared(self) -> list[RowResult]:
        """The rows whose predictions are available."""
        return [row for row in self.rows if row.rank is not None]

    def pair(self, better: RowResult, other: RowResult) -> PairResult:
        """Return the pair of two compared rows, of which the first one is the more accurate."""
        return self._pairs[better.id, other.id]

    @property
    def measuring(self) -> MachineResult:
        """The machine whose latency is shown; without runtimes if none has measured any."""
        empty = MachineResult(name=self.measured_on, runtimes=(), reference=None)
        return next((machine for machine in self.machines if machine.name == self.measured_on), empty)

    def runtime_name(self, runtime: str) -> str:
        """Return the name of a runtime, with the measuring machine if that is not the one in the table's heading."""
        return runtime if self.measured_on == self.key.machine else f"{runtime} of {self.measured_on}"

    @property
    def small_classes(self) -> list[tuple[str, int]]:
        """The names and test images of the classes with 1 to 29 test images."""
        counts = zip(self.class_names, self.test_counts, strict=True)
        return [(name, count) for name, count in counts if 0 < count < SMALL_CLASS]


def same_network(first: RowResult, second: RowResult) -> bool:
    """Return whether two rows have one network, hence one latency."""
    return set(first.networks) == set(second.networks)
