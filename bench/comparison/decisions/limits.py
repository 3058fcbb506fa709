"""Limits that a row must meet: on latency, recall, file size and any measure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.comparison.analysis import Comparison
from bench.comparison.latencies.acceptance import acceptance_on, admitted, check_of
from bench.comparison.latencies.figures import Latency, latency_of
from bench.comparison.measures import MEASURES, Estimate, of_score
from bench.comparison.rows import Checkpoint, Row
from bench.comparison.scores import recalls
from bench.records.schema import RunRecord
from imgcls.inference.runtimes import RUNTIMES

LimitKind = Literal["runtime", "latency", "recall", "size", "measure"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """A limit that a row must meet; ``label`` is its name for the user, such as the flag that it was given by.

    ``bound`` is in ms for p90 latency, a fraction for the recall of the class ``subject``, bytes for the size of the
    file of the runtime, and in base units for the measure whose key is ``subject``.
    """

    kind: LimitKind
    label: str
    bound: float = 0.0
    subject: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The runtime on which the model is used, and the limits that a row must meet.

    ``margin`` (a fraction) is how much less accurate than the best row within the limits a faster one may be.
    """

    runtime: str
    limits: tuple[Limit, ...]
    margin: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitResult:
    """Whether a row meets a limit (``fits``) and whether its whole interval does (``sure``), with its value.

    ``state`` says why there is no value, or how a reduced precision was accepted.
    """

    fits: bool
    sure: bool = True
    value: Estimate | None = None
    state: str = ""


def meets(row: Row, limit: Limit, comparison: Comparison, limits: Limits) -> LimitResult:
    """Return whether a row meets a limit."""
    return CHECKS[limit.kind](row, limit, comparison, limits.runtime)


def _runtime(row: Row, _limit: Limit, _comparison: Comparison, runtime: str) -> LimitResult:
    """Check that a row has a latency on the runtime, and weights that may be used there."""
    latency = latency_on(row, runtime)
    if latency.p50 is None:
        return LimitResult(fits=False, state=latency.state)
    if not usable(row, runtime):
        return LimitResult(fits=False, state="not checked")
    accepted = acceptance_on(chosen(row, runtime)[1], runtime, row.measured_on).word
    # float32 computes what was trained; a reduced precision needs evidence that it costs no accuracy.
    sure = RUNTIMES[runtime].precision == "fp32" or accepted == "accepted"
    return LimitResult(fits=True, sure=sure, state=accepted)


def _p90(row: Row, limit: Limit, _comparison: Comparison, runtime: str) -> LimitResult:
    p90 = latency_on(row, runtime).p90
    if p90 is None:
        return LimitResult(fits=False)
    # A quick run has one round, so that nothing is known about the variation between rounds.
    return LimitResult(fits=p90.value <= limit.bound, sure=p90.high is not None and p90.high <= limit.bound, value=p90)


def _recall(row: Row, limit: Limit, comparison: Comparison, runtime: str) -> LimitResult:
    """Check the recall of one class of the checkpoint that would be shipped, not the mean over seeds."""
    label = comparison.table.first.dataset.class_names.index(limit.subject)
    recall = recalls(replace(row, checkpoints=(chosen(row, runtime)[0],)))[label]
    if recall is None:
        return LimitResult(fits=False)
    sure = recall.interval.low >= limit.bound
    return LimitResult(fits=recall.value >= limit.bound, sure=sure, value=of_score(recall))


def _size(row: Row, limit: Limit, _comparison: Comparison, runtime: str) -> LimitResult:
    check = check_of(chosen(row, runtime)[1], runtime, row.measured_on)
    size = check.size_bytes if check and check.size_bytes else None
    # Float32 runtimes read the exported file, whose size the training has recorded; a converted file has its own.
    if size is None and RUNTIMES[runtime].precision == "fp32":
        outcome = chosen(row, runtime)[1].outcome
        size = outcome.artifact.size_bytes if outcome else None
    return LimitResult(fits=False) if size is None else LimitResult(fits=size <= limit.bound, value=Estimate(size))


def _measure(row: Row, limit: Limit, comparison: Comparison, _runtime: str) -> LimitResult:
    """Check any measure of the row, over its seeds: at least the bound where high values are better, else at most."""
    value, measure = comparison.measures[row.row_id].get(limit.subject), MEASURES[limit.subject]
    if value is None:
        return LimitResult(fits=False)
    # The least and the greatest of a few seeds are no interval.
    low, high = (None, None) if value.kind == "range" else (value.low, value.high)
    if measure.better == "high":
        worst = value.value if low is None else low
        return LimitResult(fits=value.value >= limit.bound, sure=worst >= limit.bound, value=value)
    worst = value.value if high is None else high
    # Of a lower bound nothing is known above it.
    sure = worst <= limit.bound and value.kind != "at least"
    return LimitResult(fits=value.value <= limit.bound, sure=sure, value=value)


CHECKS: Final[Mapping[LimitKind, Callable[[Row, Limit, Comparison, str], LimitResult]]] = {
    "runtime": _runtime,
    "latency": _p90,
    "recall": _recall,
    "size": _size,
    "measure": _measure,
}
"""Functions that check a limit on a row for a runtime, by the kind of the limit."""


def usable(row: Row, runtime: str) -> list[tuple[Checkpoint, RunRecord]]:
    """Return the checkpoints that may be shipped in a runtime, each with the record of its check there.

    In a reduced precision those whose accuracy was checked and not refused. Of folds the first counts: it is shipped.
    """
    pairs = []
    for checkpoint in row.checkpoints:
        # Runs that differ only in what was timed share their weights.
        same = [record for record in row.records if record.train_id == checkpoint.records[0].train_id]
        pairs += [(checkpoint, record) for record in same if admitted(record, runtime, row.measured_on)][:1]
    return pairs


def chosen(row: Row, runtime: str) -> tuple[Checkpoint, RunRecord]:
    """Return the checkpoint with the highest validation accuracy of those usable in a runtime, with its record."""
    every = usable(row, runtime) or [(checkpoint, checkpoint.records[0]) for checkpoint in row.checkpoints]
    # Not by test accuracy: a maximum over seeds would bias the reported test accuracy upwards.
    return max(every, key=lambda pair: pair[0].mean("val", "top1_accuracy"))


def latency_on(row: Row, runtime: str) -> Latency:
    """Return the latency of a row on a runtime."""
    # Without sessions, which only decide on the marks of outliers.
    return latency_of(row, runtime, {})
