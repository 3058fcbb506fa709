"""Which model to ship under limits of latency, recall and size, and what each limit costs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.comparison.acceptance import acceptance, check_of, refused
from bench.comparison.analysis import Findings, accuracy
from bench.comparison.recommend import (
    NOTHING_FITS,
    PERCENT,
    Limits,
    Rule,
    Verdict,
    chosen,
    fitting_entries,
    recommended,
    tied_with,
)
from bench.comparison.sessions import interval_over_rounds
from bench.comparison.speeds import shown
from bench.comparison.tables import Entry
from bench.latency.protocol import enough_queries
from bench.leaderboard.cells import accuracy_cell, figure, score_cell, validity_word
from bench.leaderboard.summary import listed, points, power_line
from bench.stats.intervals import percentile, wilson_interval
from bench.stats.pairs import ALPHA
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import RUNTIMES


def show(limits: Limits, found: Findings, results: Path, console: Console) -> int:
    """Print what to ship; 0, or 3 where nothing fits."""
    names = found.board.first.dataset.class_names
    if unknown := [name for name in limits.min_recall if name not in names]:
        message = f"--min-recall {unknown[0]}: no such class; classes: {', '.join(names)}"
        raise ConfigError(message)
    rules = _rules(limits)
    best = recommended(found, limits, rules)
    lines = _nothing(found, rules) if best is None else _answer(best, found, limits, rules, results)
    for line in lines:
        console.print(line, markup=False)
    return NOTHING_FITS if best is None else 0


def _rules(limits: Limits) -> dict[str, Rule]:
    """Give a rule for each limit, by the words that asked for it; and that the runtime's figures may be used."""
    found: dict[str, Rule] = {f"--runtime {limits.runtime}": partial(_runs, runtime=limits.runtime)}
    if limits.max_latency_ms is not None:
        most = limits.max_latency_ms
        found[f"--max-latency-ms {most:g}"] = partial(_latency, runtime=limits.runtime, most=most)
    for name, least in limits.min_recall.items():
        found[f"--min-recall {name}={least:g}"] = partial(_recall, class_name=name, least=least)
    if limits.max_size_mb is not None:
        size = limits.max_size_mb
        found[f"--max-size-mb {size:g}"] = partial(_size, runtime=limits.runtime, most=size)
    return found


def _runs(entry: Entry, *, runtime: str) -> Verdict:
    if refused(entry.first, runtime):
        return Verdict(fits=False, sure=True, words="refused for its accuracy there")
    if shown(entry, runtime) is None:
        return Verdict(fits=False, sure=True, words="no figures there")
    accepted = acceptance(check_of(entry.first, runtime)).word
    reduced = RUNTIMES[runtime].precision != "fp32"
    return Verdict(fits=True, sure=not reduced or accepted == "accepted", words=f"accuracy there: {accepted}")


def _latency(entry: Entry, *, runtime: str, most: float) -> Verdict:
    row = shown(entry, runtime)
    if row is None or not enough_queries(PERCENT, row[1].num_queries):
        return Verdict(fits=False, sure=True, words="no p90 there")
    p90, interval = percentile(row[1].samples_ms, PERCENT), interval_over_rounds(row[1], PERCENT)
    upper = interval.high if interval else None
    spread = (
        f"{figure(interval.low)} to {figure(interval.high)} ms, {validity_word(row[1])}"
        if interval
        else "quick run, not validated"
    )
    return Verdict(fits=p90 <= most, sure=upper is not None and upper <= most, words=f"p90 {figure(p90)} ms ({spread})")


def _recall(entry: Entry, *, class_name: str, least: float) -> Verdict:
    """Judge the checkpoint that would be shipped, not the mean over seeds."""
    label, confusion = entry.first.dataset.class_names.index(class_name), chosen(entry).confusion
    right, total = int(confusion[label, label]), int(confusion[label].sum())
    if total == 0:
        return Verdict(fits=False, sure=True, words=f"no test image of {class_name}")
    words = f"recall of {class_name} {accuracy_cell(right / total, total)} %"
    sure = wilson_interval(right, total).low >= least
    return Verdict(fits=right / total >= least, sure=sure, words=words)


def _size(entry: Entry, *, runtime: str, most: float) -> Verdict:
    check = check_of(entry.first, runtime)
    size = check.size_bytes if check and check.size_bytes else None
    if size is None and RUNTIMES[runtime].precision == "fp32":
        size = entry.outcome.artifact.size_bytes
    if size is None:
        return Verdict(fits=False, sure=True, words="size there not known")
    return Verdict(fits=size <= most * 1e6, sure=True, words=f"{size / 1e6:.1f} MB")


def _nothing(found: Findings, rules: Mapping[str, Rule]) -> list[str]:
    lines = ["Nothing fits."]
    for words, rule in rules.items():
        out = [f"{entry.name} ({rule(entry).words})" for entry in found.compared if not rule(entry).fits]
        if out:
            lines.append(f"{words} excludes {listed(out)}.")
    return lines + _not_compared(found)


def _not_compared(found: Findings) -> list[str]:
    left_out = [entry.name for entry in found.not_compared]
    return [f"Not looked at, as predictions are not at hand: {listed(left_out)}."] if left_out else []


def _answer(best: Entry, found: Findings, limits: Limits, rules: Mapping[str, Rule], results: Path) -> list[str]:
    fitting = fitting_entries(found, rules)
    tied = tied_with(best, fitting, found)
    lines = [f"Ship {best.name}: test top-1 {score_cell(accuracy(best))} %, {_timing(best, limits.runtime)}."]
    lines.append(
        f"Tied with it within the limits: {listed([e.name for e in tied])}." if tied else "Nothing is tied with it."
    )
    if fitting[0] is not best:
        lines.append(
            f"{fitting[0].name} scored highest within the limits; {best.name} is the fastest not told from it."
        )
    for words, rule in rules.items():
        verdict = rule(best)
        if not verdict.sure:
            lines.append(f"{words} is met, but that is not sure: {verdict.words}.")
        lines.append(_cost(words, best, found, limits, rules))
    lines += [_artifact(best, limits.runtime, results), *_not_compared(found), power_line(found)]
    return [line for line in lines if line]


def _timing(entry: Entry, runtime: str) -> str:
    row = shown(entry, runtime)
    return (
        f"p50 {figure(percentile(row[1].samples_ms, 50))} ms in {runtime} ({validity_word(row[1])})"
        if row
        else "not timed"
    )


def _cost(words: str, best: Entry, found: Findings, limits: Limits, rules: Mapping[str, Rule]) -> str:
    """Say what would be shipped without one limit."""
    without = recommended(found, limits, {name: rule for name, rule in rules.items() if name != words})
    if without is None or without is best:
        return "" if words.startswith("--runtime") else f"{words} costs nothing: {best.name} is the choice without it."
    told = "told apart" if found.adjusted(best, without) <= ALPHA else "not told apart"
    paired = found.pair(best, without)
    difference = points(paired.difference, paired.interval.low, paired.interval.high)
    return f"{words} costs: {without.name} without it, {difference}, unadjusted; {told}."


def _artifact(entry: Entry, runtime: str, results: Path) -> str:
    one = chosen(entry)
    path = results / "artifacts" / one.records[0].train_id / RUNTIMES[runtime].file
    why = f" (seed {one.seed}, the best on val of {len(entry.checkpoints)})" if len(entry.checkpoints) > 1 else ""
    fold = " (of several folds, the first: train once more on all images)" if len(one.records) > 1 else ""
    return f"Artifact: {path}{why}{fold}{'' if path.exists() else ', which is not on this machine'}"
