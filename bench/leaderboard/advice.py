"""A recommendation as text: the model to ship, rows without a significant difference, the cost of each limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.comparison.analysis import Comparison
from bench.comparison.recommend import (
    LimitCheck,
    Limits,
    checks_of,
    chosen,
    fitting_rows,
    not_different,
    recommended,
)
from bench.comparison.scores import accuracy
from bench.comparison.speeds import shown
from bench.comparison.tables import Row
from bench.leaderboard.cells import figure, score_cell, validity_word
from bench.leaderboard.summary import difference_text, listed, p_text, power_basis, power_text
from bench.records.paths import Paths
from bench.stats.intervals import percentile
from bench.stats.pairs import ALPHA
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES


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
    checks = checks_of(limits)
    best = recommended(comparison, limits, checks)
    if best is None:
        return Advice(lines=_nothing(comparison, checks) + _machines(comparison), fits=False)
    if any(row is best for row in comparison.no_better_than_majority):
        return Advice(lines=_useless(best, comparison) + _machines(comparison), fits=False)
    return Advice(lines=_answer(best, comparison, limits, checks, results) + _machines(comparison), fits=True)


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
    chosen_row = f"{best.name} would be chosen (top-1 {score_cell(accuracy(best))} %)"
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
    best: Row, comparison: Comparison, limits: Limits, checks: Mapping[str, LimitCheck], results: Path
) -> list[str]:
    fitting = fitting_rows(comparison, checks)
    level = [row.name for row in not_different(best, fitting, comparison)]
    lines = [f"Ship {best.name}: top-1 {score_cell(accuracy(best))} %, {_timing(best, limits.runtime)}."]
    if level:
        lines.append(f"No significant difference in accuracy to {listed(level)} within the limits.")
    elif len(fitting) > 1:
        lines.append("All other rows within the limits differ significantly in accuracy.")
    if fitting[0] is not best:
        p_value = p_text(comparison.adjusted(fitting[0], best))
        lines.append(
            f"{fitting[0].name} is the most accurate within the limits; {best.name} is the fastest row without a "
            f"significant difference to it ({p_value})."
        )
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


def _timing(row: Row, runtime: str) -> str:
    found = shown(row, runtime)
    if found is None:
        return "not timed"
    return f"p50 {figure(percentile(found[1].samples_ms, 50))} ms on {runtime} ({validity_word(found[1])})"


def _cost(flag: str, best: Row, comparison: Comparison, limits: Limits, checks: Mapping[str, LimitCheck]) -> str:
    """Return the recommendation without one limit."""
    without = recommended(comparison, limits, {other: check for other, check in checks.items() if other != flag})
    if without is None or without is best:
        return "" if flag.startswith("--runtime") else f"{flag} does not change the recommendation."
    paired = comparison.pair(best, without)
    gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
    adjusted = comparison.adjusted(best, without)
    kind = "significant" if adjusted <= ALPHA else "no significant difference"
    return f"Without {flag}: {without.name}, {gap}, unadjusted; {kind} ({p_text(adjusted)}, Holm)."


def _artifact(row: Row, runtime: str, results: Path) -> str:
    # Of several seeds, the best on val: choosing by test would make the stated accuracy optimistic.
    one = chosen(row)
    path = Paths(results=results).artifacts(one.records[0].train_id) / RUNTIMES[runtime].file
    why = f" (seed {one.seed}, the best on val of {len(row.checkpoints)})" if len(row.checkpoints) > 1 else ""
    fold = " (the first of several folds; to ship a model, train on all images)" if len(one.records) > 1 else ""
    return f"Artifact: {path}{why}{fold}{'' if path.exists() else ', not on this machine'}"
