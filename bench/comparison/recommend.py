"""The recommended row under limits on latency, recall and file size."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from bench.comparison.acceptance import acceptance_on, admitted, check_of
from bench.comparison.analysis import Comparison
from bench.comparison.scores import recalls
from bench.comparison.sessions import interval_over_rounds
from bench.comparison.speeds import shown, withheld
from bench.comparison.tables import Checkpoint, Row
from bench.latency.protocol import enough_queries
from bench.records.schema import RunRecord
from bench.stats.intervals import percentile
from bench.stats.ranks import ToBest, bounds_to_best
from imgcls.data.sources.file_names import composed
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES

NOTHING_FITS: Final = 3
"""Exit status if no row meets all limits."""

MOST_MARGIN: Final = 50.0
"""Percentage points below which a margin must be."""

PERCENT: Final = 90
"""The limit on latency applies to this percentile: a tenth of all queries may take longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The limits that a row must meet; None or an empty mapping means no limit.

    ``margin`` (a fraction) is how much less accurate than the best row within the limits a faster one may be.
    """

    runtime: str
    margin: float | None = None
    max_latency_ms: float | None = None
    min_recall: Mapping[str, float]
    max_size_mb: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitResult:
    """Whether a row meets a limit (``fits``), whether its whole interval does (``sure``), and its value as text."""

    fits: bool
    sure: bool
    words: str


LimitCheck = Callable[[Row], LimitResult]


def limits_of(
    *,
    runtime: str,
    margin: str | None = None,
    max_latency_ms: float | None,
    min_recall: Iterable[str],
    max_size_mb: float | None,
) -> Limits:
    """Return the limits from the arguments of the command line; raises ConfigError if one is invalid."""
    if runtime not in RUNTIMES:
        message = f"--runtime {runtime}: unknown; known: {', '.join(RUNTIMES)}"
        raise ConfigError(message)
    for flag, value in (("--max-latency-ms", max_latency_ms), ("--max-size-mb", max_size_mb)):
        if value is not None and not value > 0:
            message = f"{flag} {value:g}: use a number above 0"
            raise ConfigError(message)
    least = dict(_class_and_share(text) for text in min_recall)
    return Limits(
        runtime=runtime,
        margin=None if margin is None else _margin(margin),
        max_latency_ms=max_latency_ms,
        min_recall=least,
        max_size_mb=max_size_mb,
    )


def _margin(text: str) -> float:
    """Return a margin in percentage points as a fraction."""
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    # Negated, so that NaN is refused too.
    if not 0 < points < MOST_MARGIN:
        message = f"--margin {text}: use percentage points above 0 and below {MOST_MARGIN:g}, such as 1"
        raise ConfigError(message)
    return points / 100


def _class_and_share(text: str) -> tuple[str, float]:
    # From the right, as the name of a class may contain "=".
    class_name, _, share = text.rpartition("=")
    try:
        least = float(share)
    except ValueError:
        least = -1.0
    if not class_name or not 0 <= least <= 1:
        message = f"--min-recall {text}: use CLASS=SHARE with a share from 0 to 1, such as glass=0.8"
        raise ConfigError(message)
    return composed(class_name), least


def checks_of(limits: Limits) -> dict[str, LimitCheck]:
    """Return a check for each limit that was given, by its flag."""
    return {flag: check for checks in LIMITS for flag, check in checks(limits).items()}


def _runtime(limits: Limits) -> dict[str, LimitCheck]:
    """Return the check that a row has a latency on the runtime, and weights that may be used there."""

    def check(row: Row) -> LimitResult:
        if shown(row, limits.runtime) is None:
            return LimitResult(fits=False, sure=True, words=_WITHHELD[withheld(row, limits.runtime)])
        if not usable(row, limits.runtime):
            return LimitResult(fits=False, sure=True, words=_WITHHELD["not checked"])
        accepted = acceptance_on(chosen(row, limits.runtime)[1], limits.runtime, row.measured_on).word
        # float32 computes what was trained; a reduced precision needs evidence that it costs no accuracy.
        reduced = RUNTIMES[limits.runtime].precision != "fp32"
        return LimitResult(fits=True, sure=not reduced or accepted == "accepted", words=f"accuracy check: {accepted}")

    return {f"--runtime {limits.runtime}": check}


_WITHHELD: Final = {
    "refused": "refused for its accuracy on this runtime",
    "not checked": "its accuracy on this runtime was not checked",
    None: "no measurement on this runtime",
}


def _latency(limits: Limits) -> dict[str, LimitCheck]:
    most = limits.max_latency_ms
    if most is None:
        return {}

    def check(row: Row) -> LimitResult:
        timed, time = shown(row, limits.runtime), p90(row, limits.runtime)
        if timed is None or time is None:
            return LimitResult(fits=False, sure=True, words="no p90 on this runtime")
        interval = interval_over_rounds(timed[1], PERCENT)
        spread = f"95 % CI {interval.low:.3g} to {interval.high:.3g} ms" if interval else "quick run, not validated"
        # A quick run has one round, so that nothing is known about the variation between rounds.
        sure = interval is not None and interval.high <= most
        return LimitResult(fits=time <= most, sure=sure, words=f"p90 {time:.3g} ms ({spread})")

    return {f"--max-latency-ms {most:g}": check}


def _recall(limits: Limits) -> dict[str, LimitCheck]:
    return {
        f"--min-recall {name}={least:g}": partial(_recall_of, runtime=limits.runtime, class_name=name, least=least)
        for name, least in limits.min_recall.items()
    }


def _recall_of(row: Row, *, runtime: str, class_name: str, least: float) -> LimitResult:
    """Check the recall of one class of the checkpoint that would be shipped, not the mean over seeds."""
    label = row.first.dataset.class_names.index(class_name)
    recall = recalls(replace(row, checkpoints=(chosen(row, runtime)[0],)))[label]
    if recall is None:
        return LimitResult(fits=False, sure=True, words=f"no test image of {class_name}")
    interval = recall.interval
    text = f"{100 * recall.value:.1f} % (95 % CI {100 * interval.low:.1f} to {100 * interval.high:.1f})"
    return LimitResult(fits=recall.value >= least, sure=interval.low >= least, words=f"recall of {class_name} {text}")


def _size(limits: Limits) -> dict[str, LimitCheck]:
    most = limits.max_size_mb
    if most is None:
        return {}

    def check(row: Row) -> LimitResult:
        accuracy_check = check_of(chosen(row, limits.runtime)[1], limits.runtime, row.measured_on)
        size = accuracy_check.size_bytes if accuracy_check and accuracy_check.size_bytes else None
        # Float32 runtimes read the exported file, whose size the training has recorded; a converted file has its own.
        if size is None and RUNTIMES[limits.runtime].precision == "fp32":
            size = row.outcome.artifact.size_bytes
        if size is None:
            return LimitResult(fits=False, sure=True, words="size on this runtime unknown")
        return LimitResult(fits=size <= most * 1e6, sure=True, words=f"{size / 1e6:.1f} MB")

    return {f"--max-size-mb {most:g}": check}


LIMITS: Final[tuple[Callable[[Limits], dict[str, LimitCheck]], ...]] = (_runtime, _latency, _recall, _size)
"""Functions that return the checks of a limit by flag; none if the limit was not given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The rows within the limits, the most accurate first, and the one to ship.

    ``bounds`` are those of each row against the best of them, whichever that is. ``shown`` is whether ``row`` is shown
    to be within the margin; False without a margin.
    """

    fitting: tuple[Row, ...]
    bounds: tuple[ToBest, ...]
    row: Row
    shown: bool


def recommended(comparison: Comparison, limits: Limits, checks: Mapping[str, LimitCheck]) -> Choice | None:
    """Return the most accurate row within the limits or, with a margin, the fastest whose bound lies within it.

    If no row is shown to be within the margin, it is the most accurate one too. None if no row meets all limits.
    """
    fitting = fitting_rows(comparison, checks)
    if not fitting:
        return None
    bounds = bounds_to_best([row.right for row in fitting if row.right is not None], comparison.groups)
    near = [
        (time, index)
        for index, (row, bound) in enumerate(zip(fitting, bounds, strict=True))
        if limits.margin is not None and bound.low > -limits.margin and (time := p90(row, limits.runtime)) is not None
    ]
    row = fitting[min(near)[1]] if near else fitting[0]
    return Choice(fitting=tuple(fitting), bounds=tuple(bounds), row=row, shown=bool(near))


def p90(row: Row, runtime: str) -> float | None:
    """Return a row's p90 latency in ms on a runtime; None unless it was measured with enough queries."""
    timed = shown(row, runtime)
    if timed is None or not enough_queries(PERCENT, timed[1].num_queries):
        return None
    return percentile(timed[1].samples_ms, PERCENT)


def fitting_rows(comparison: Comparison, checks: Mapping[str, LimitCheck]) -> list[Row]:
    """Return the compared rows that meet all limits, sorted by accuracy, the highest first."""
    return [row for row in comparison.compared if all(check(row).fits for check in checks.values())]


def faster_rows(row: Row, others: Iterable[Row], runtime: str) -> list[Row]:
    """Return the rows among ``others`` with a lower median latency than ``row`` on a runtime, the fastest first."""
    own = median_ms(row, runtime)
    return sorted(
        (other for other in others if median_ms(other, runtime) < own), key=lambda other: median_ms(other, runtime)
    )


def median_ms(row: Row, runtime: str) -> float:
    """Return a row's median latency in ms on a runtime; infinite if it was not measured."""
    timed = shown(row, runtime)
    return percentile(timed[1].samples_ms, 50) if timed else float("inf")


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
