"""Advice as text: the model to ship, what faster rows would lose, the cost of limits, the gain of more photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.comparison.analysis import Comparison
from bench.comparison.recommend import (
    Choice,
    LimitCheck,
    Limits,
    checks_of,
    chosen,
    faster_rows,
    recommended,
    usable,
)
from bench.comparison.speeds import same_network, shown
from bench.comparison.tables import Row
from bench.leaderboard.cells import figure, score_cell, validity_word
from bench.leaderboard.summary import difference_text, listed, p_text, power_basis, power_text
from bench.records.paths import Paths
from bench.stats.intervals import percentile
from bench.stats.pairs import ALPHA, compare_pair
from bench.stats.power import power_of
from bench.stats.ranks import images_for_margin
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES

SHARES: Final = (0.25, 0.5, 1.0)
"""Shares of train of a learning curve; the last two are a doubling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """A recommendation as lines of text, and whether any row fits the limits."""

    lines: list[str]
    fits: bool


def advice(limits: Limits, comparison: Comparison, results: Path) -> Advice:
    """Return the recommendation; raises ConfigError for a class that the table does not have."""
    names = comparison.table.first.dataset.class_names
    if unknown := [name for name in limits.min_recall if name not in names]:
        message = f"--min-recall {unknown[0]}: no such class; classes: {', '.join(names)}"
        raise ConfigError(message)
    _require_visible(limits.margin, comparison)
    checks = checks_of(limits)
    choice = recommended(comparison, limits, checks)
    if choice is None:
        return Advice(lines=_nothing(comparison, checks) + _machines(comparison), fits=False)
    if any(row is choice.row for row in comparison.no_better_than_majority):
        return Advice(lines=_useless(choice.row, comparison) + _machines(comparison), fits=False)
    return Advice(lines=_answer(choice, comparison, limits, checks, results) + _machines(comparison), fits=True)


def _require_visible(margin: float | None, comparison: Comparison) -> None:
    """Raise ConfigError for a margin that is less than one test image, which is usually a fraction by mistake."""
    if margin is not None and margin * comparison.number < 1:
        message = (
            f"--margin {100 * margin:g}: one of {comparison.number:,} test images is {100 / comparison.number:.2g} "
            "percentage points; margins are in percentage points, such as 1"
        )
        raise ConfigError(message)


def _machines(comparison: Comparison) -> list[str]:
    """Return the machine of the latencies, if it is not the only one or not that of the heading."""
    used, others = comparison.table.measured_on, comparison.table.machines
    others = [machine for machine in others if machine != used]
    if not others and used == comparison.table.key.machine:
        return []
    choice = f"; --machine NAME chooses another: {', '.join(others)}" if others else ""
    return [f"Latencies are of {used}{choice}."]


def _useless(best: Row, comparison: Comparison) -> list[str]:
    """Return why nothing is recommended although rows meet the limits."""
    majority = comparison.table.majority
    baseline = f"the majority-class baseline ({majority.class_name}, {100 * majority.top1_accuracy:.1f} %)"
    chosen_row = f"{best.name} would be chosen (top-1 {score_cell(comparison.accuracy(best))} %)"
    return [f"No recommendation: {chosen_row}, but it is not significantly better than {baseline}."]


def _nothing(comparison: Comparison, checks: Mapping[str, LimitCheck]) -> list[str]:
    lines = ["No row meets all limits."]
    for flag, check in checks.items():
        excluded = [f"{row.name} ({check(row).words})" for row in comparison.compared if not check(row).fits]
        if excluded:
            lines.append(f"{flag} excludes {listed(excluded)}.")
    return lines + _not_compared(comparison)


def _not_compared(comparison: Comparison) -> list[str]:
    names = [row.name for row in comparison.not_compared]
    return [f"Not considered, because predictions are missing: {listed(names)}."] if names else []


def _answer(
    choice: Choice, comparison: Comparison, limits: Limits, checks: Mapping[str, LimitCheck], results: Path
) -> list[str]:
    best = choice.row
    lines = [f"Ship {best.name}: top-1 {score_cell(comparison.accuracy(best))} %, {_timing(best, limits.runtime)}."]
    if limits.margin is None:
        lines += _faster(choice, comparison, limits)
    else:
        lines += _within(choice, comparison, limits.runtime, limits.margin)
    # For each limit: whether the whole interval meets it, and what it costs, as a limit may be stricter than needed.
    for flag, check in checks.items():
        result = check(best)
        if not result.sure:
            lines.append(f"{flag} is met by the estimate, but not by its whole interval: {result.words}.")
        lines.append(_cost(flag, best, comparison, limits, checks))
    power = [f"{power_text(comparison.power)} {power_basis(comparison.power)}"] if comparison.power else []
    return [
        line for line in [*lines, _artifact(best, limits.runtime, results), *_not_compared(comparison), *power] if line
    ]


def _faster(choice: Choice, comparison: Comparison, limits: Limits) -> list[str]:
    """Return what each faster row within the limits would lose."""
    lines = [f"It is the most accurate of {len(choice.fitting)} rows within the limits."]
    for row in faster_rows(choice.row, choice.fitting, limits.runtime):
        paired = comparison.pair(choice.row, row)
        gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
        lines.append(f"Faster: {row.name}, {_timing(row, limits.runtime)}: {gap}, simultaneous.")
    return lines


def _within(choice: Choice, comparison: Comparison, runtime: str, margin: float) -> list[str]:
    """Return why the row is chosen under a margin, or which images it would take to choose a faster one."""
    bounds = dict(zip([row.row_id for row in choice.fitting], choice.bounds, strict=True))
    points, bound = f"{100 * margin:g} pp", bounds[choice.row.row_id]
    how = f"simultaneous one-sided 95 % bound of the difference {100 * bound.low:+.1f} pp (Hsu)"
    best = f"less than {points} below the best row within the limits"
    lines = (
        [f"It is the fastest row that is shown to be {best}: {how}."]
        if choice.shown
        else [f"No row with a p90 on {runtime} is shown to be {best}; this is the most accurate one, {how}."]
    )
    same = [row.name for row in choice.fitting if row is not choice.row and same_network(row, choice.row)]
    lines += [f"As fast, because they have the same network: {listed(same)}."] if same and choice.shown else []
    for row in faster_rows(choice.row, choice.fitting, runtime):
        row_bound = bounds[row.row_id]
        needed = images_for_margin(row_bound, margin, comparison.number)
        more = (
            "its accuracy is lower by more than the margin"
            if needed is None
            else f"at the observed difference, about {needed:,} test images would be needed to show it"
        )
        lines.append(
            f"Faster, but not shown to be within {points}: {row.name}, {_timing(row, runtime)}, "
            f"{100 * row_bound.difference:+.1f} pp (bound {100 * row_bound.low:+.1f}); {more}."
        )
    return lines


def _timing(row: Row, runtime: str) -> str:
    timed = shown(row, runtime)
    if timed is None:
        return "not timed"
    return f"p50 {figure(percentile(timed[1].samples_ms, 50))} ms on {runtime} ({validity_word(timed[1])})"


def _cost(flag: str, best: Row, comparison: Comparison, limits: Limits, checks: Mapping[str, LimitCheck]) -> str:
    """Return the recommendation without one limit."""
    choice = recommended(comparison, limits, {other: check for other, check in checks.items() if other != flag})
    if choice is None or choice.row is best:
        return "" if flag.startswith("--runtime") else f"{flag} does not change the recommendation."
    without = choice.row
    paired = comparison.pair(best, without)
    gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
    adjusted = comparison.adjusted(best, without)
    kind = "significant" if adjusted <= ALPHA else "no significant difference"
    return f"Without {flag}: {without.name}, {gap}, simultaneous; {kind} ({p_text(adjusted)}, Holm)."


def _artifact(row: Row, runtime: str, results: Path) -> str:
    # Of several seeds, the best on val: choosing by test would make the stated accuracy optimistic.
    checkpoint, _ = chosen(row, runtime)
    number, total = len(usable(row, runtime)), len(row.checkpoints)
    checked = f" checked on {runtime}" if number < total else ""
    path = Paths(results=results).artifacts(checkpoint.records[0].train_id) / RUNTIMES[runtime].file
    why = f" (seed {checkpoint.seed}, the best on val of {number}{checked})" if total > 1 else ""
    fold = " (the first of several folds; to ship a model, train on all images)" if len(checkpoint.records) > 1 else ""
    return f"Artifact: {path}{why}{fold}{'' if path.exists() else ', not on this machine'}"


def photos_advice(runs: Mapping[float, set[str]], comparisons: Sequence[Comparison]) -> list[str]:
    """Return a line for each share of train, and whether the last doubling of train has raised the accuracy.

    ``runs`` are the ids of the runs of each share. A share without a complete row is omitted.
    """
    curve = [
        (share, row, comparison)
        for share, ids in runs.items()
        for comparison in comparisons
        for row in comparison.compared
        if ids & {record.run_id for record in row.records}
    ]
    lines = [
        f"{100 * share:.0f} % of train: top-1 {score_cell(comparison.accuracy(row))} %"
        for share, row, comparison in curve
    ]
    if [share for share, _, _ in curve][-2:] != list(SHARES[-2:]):
        return [*lines, "Not every share has a score, so nothing can be said about more photos."]
    (_, half, comparison), (_, whole, _) = curve[-2:]
    assert half.right is not None
    assert whole.right is not None
    paired = compare_pair(half.right, whole.right, comparison.groups)
    gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
    doubling = f"From half of train to all of it: {gap}, {p_text(paired.p_value)}"
    if paired.p_value > ALPHA:
        power = power_of([half.right, whole.right], comparison.groups, tests=1)
        least = power_text(power) if power else ""
        return [*lines, f"{doubling}: no evidence that more photos would help. {least}".strip()]
    verdict = "more photos are likely to help" if paired.difference > 0 else "more photos have not helped"
    return [*lines, f"{doubling}: {verdict}."]
