"""Pairs of rows or runs compared on the same test images, as text and tables."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table as Grid

from bench.comparison.analysis import Comparison, groups_of
from bench.comparison.compare import Effect, Side, choose, effects
from bench.comparison.scores import minority_classes, recalls, worst_class
from bench.comparison.speeds import ratio, runtime_text, runtimes_of, same_network, shown
from bench.comparison.tables import Row, members_of
from bench.leaderboard.cells import NO_VALUE, code, score_cell, table
from bench.leaderboard.details import p_cell
from bench.leaderboard.summary import difference_text, images_text, p_text, power_basis, power_text
from bench.recipes import budget_text
from bench.stats.groups import number_of
from bench.stats.losses import compare_losses
from bench.stats.pairs import ALPHA, Paired, compare_pair, speaks_of_models
from bench.stats.power import power_of


def comparison_of(names: tuple[str, str], comparisons: Sequence[Comparison]) -> Iterator[RenderableType]:
    """Return the paired comparison of two rows or runs as tables and lines; raises ConfigError if there is none."""
    first, second = choose(names, comparisons)
    groups = groups_of([first.row, second.row])
    paired = compare_pair(first.right, second.right, groups)
    images = images_text(first.right.shape[1], number_of(groups, first.right.shape[1]))
    yield f"{second.name} against {first.name}: {first.table.key.dataset}, {images}"
    yield _scores(first, second)
    # The fourfold table is that of McNemar's test, which applies only to single checkpoints.
    if len(first.right) == len(second.right) == 1:
        yield _both(first.right[0], second.right[0])
    yield _classes(first, second)
    yield from [*_tests(first, second, paired), *_times(first, second), *_minority(first, second)]


def _scores(first: Side, second: Side) -> Grid:
    table = Grid("", escape(first.name), escape(second.name))
    table.add_row("Top-1 % (95 % CI)", *(score_cell(side.comparison.accuracy(side.row)) for side in (first, second)))
    table.add_row("Macro-F1 % (95 % CI)", *(score_cell(side.comparison.macro_f1(side.row)) for side in (first, second)))
    table.add_row("Init", first.row.init, second.row.init)
    table.add_row("Recipe", *(side.row.first.base.recipe for side in (first, second)))
    table.add_row("Budget", *(budget_text(side.table.key.budget) for side in (first, second)))
    return table


def _both(first: np.ndarray, second: np.ndarray) -> Grid:
    table = Grid("Images", "second right", "second wrong")
    for title, rows in (("first right", first), ("first wrong", ~first)):
        table.add_row(title, str(int((rows & second).sum())), str(int((rows & ~second).sum())))
    return table


def _classes(first: Side, second: Side) -> Grid:
    table = Grid("Recall % (95 % CI)", "Images", escape(first.name), escape(second.name))
    columns = [recalls(side.row) for side in (first, second)]
    for label, class_name in enumerate(first.row.first.dataset.class_names):
        cells = [score_cell(score) if (score := column[label]) else NO_VALUE for column in columns]
        table.add_row(escape(class_name), str(first.table.test_counts[label]), *cells)
    return table


def _tests(first: Side, second: Side, paired: Paired) -> list[str]:
    kind = "a significant difference" if paired.p_value <= ALPHA else "no significant difference"
    what = "models" if speaks_of_models(first.right, second.right) else "checkpoints"
    gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
    lines = [
        f"Accuracy: {gap}; {_p_words(first, second, paired)}: {kind} between these {what}.",
        "The test is not adjusted for other pairs; the leaderboard adjusts for all pairs of its table (Holm).",
    ]
    lines += _losses(first, second)
    if power := power_of([first.right, second.right], groups_of([first.row, second.row])):
        lines += [power_text(power), power_basis(power)]
    if first.row.init != second.row.init:
        lines.append("Initialisation differs, so the comparison confounds pre-training with architecture.")
    if first.table.key != second.table.key:
        lines.append("The rows are from two tables, so the comparison confounds budget, image size or machine, too.")
    return lines


def _losses(first: Side, second: Side) -> list[str]:
    """Return the comparison of log loss, a finer measure; nothing if it is not stored."""
    pair_losses = [losses for side in (first, second) if (losses := side.row.losses) is not None]
    if len(pair_losses) < 2:  # noqa: PLR2004 - a pair
        return []
    tests = compare_losses(pair_losses, groups_of([first.row, second.row]))
    gap, low, high, p_value = (values[0, 1] for values in (tests.differences, tests.low, tests.high, tests.p_values))
    kind = "a significant difference" if p_value <= ALPHA else "no significant difference"
    return [f"Log loss: {gap:+.3f} nats (95 % CI {low:+.3f} to {high:+.3f}); {p_text(p_value)}: {kind}."]


def _p_words(first: Side, second: Side, paired: Paired) -> str:
    """Return the p value with the name of its test."""
    if speaks_of_models(first.right, second.right):
        return f"p {p_cell(paired.p_value)} (Welch's t over seeds and images)"
    kind = "exact p" if len(first.right) == len(second.right) else "p (numbers of seeds differ)"
    return f"{kind} {p_cell(paired.p_value)}, mid-p {p_cell(paired.mid_p)}"


def _times(first: Side, second: Side) -> list[str]:
    if same_network(first.row, second.row):
        return ["Both have the same network, whose latency does not depend on the weights."]
    lines = []
    for runtime in runtimes_of(first.table.rows):
        rows = [shown(side.row, runtime) for side in (first, second)]
        if rows[0] is None or rows[1] is None:
            continue
        name = runtime_text(runtime, first.table)
        # Times of different sessions are not compared: the machine may have changed speed in between.
        within = ratio(rows[1][1], rows[0][1])
        if within is not None:
            low, high = within.interval.low, within.interval.high
            interval = f"95 % CI {low:.3f} to {high:.3f}, within rounds"
            lines.append(f"{name}: {second.name} takes {within.value:.3f} x the time of {first.name} ({interval})")
        else:
            lines.append(f"{name}: not measured in one session; python -m bench measure measures them together")
    return lines


def _minority(first: Side, second: Side) -> list[str]:
    classes = minority_classes(first.table)
    rows = np.isin(first.predictions.labels, classes) if first.predictions is not None else np.zeros(0, dtype=bool)
    names = ", ".join(first.row.first.dataset.class_names[label] for label in classes)
    if not classes:
        return ["No minority class: every class has at least half of the median class's train images."]
    if not rows.any():
        return [f"Minority classes ({names}): no test images."]
    groups = groups_of([first.row, second.row])
    paired = compare_pair(first.right[:, rows], second.right[:, rows], None if groups is None else groups[rows])
    gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
    return [f"Minority classes ({names}; {rows.sum()} images): {gap}; {_p_words(first, second, paired)}"]


MOST_DIVERSE: Final = 10
"""Rows of the matrix of diversity, the most accurate first."""

IMBALANCE_COLUMNS: Final = (
    "Model",
    "Technique",
    "Top-1 %",
    "Macro-F1 %",
    "Worst class %",
    "Minority, pp to none (95 % CI)",
    "p (Holm)",
    "Detectable, pp",
    "Other classes, pp to none (95 % CI)",
)


def imbalance_table(comparison: Comparison) -> list[str]:
    """Return accuracy, macro-F1 and worst class of the techniques against imbalance, and their effects, as Markdown."""
    by_row = {effect.row.row_id: effect for effect in effects(comparison)}
    rows = [row for row in comparison.ordered if row.checkpoints]
    if len({row.first.base.train.imbalance for row in rows}) == 1 or not rows:
        return []
    lines = []
    for row in rows:
        worst, effect = worst_class(row), by_row.get(row.row_id)
        scores = [f"{100 * row.accuracy:.1f}", f"{100 * comparison.macro_f1(row).value:.1f}"]
        scores.append(f"{100 * worst[1].value:.1f} ({code(worst[0])})" if worst else NO_VALUE)
        lines.append([code(row.first.config.model), row.first.base.train.imbalance, *scores, *_effect(effect)])
    names = ", ".join(
        code(comparison.table.first.dataset.class_names[label]) for label in minority_classes(comparison.table)
    )
    words = (
        f"Minority classes: {names}. Intervals are not adjusted; p is of the minority classes, adjusted over all "
        "techniques (Holm). Detectable is the minimum detectable difference there, at 80 % power."
        if names
        else "No class is a minority class (fewer than half of the median class's train images)."
    )
    return [*table(IMBALANCE_COLUMNS, lines, left=2), "", words]


def _effect(effect: Effect | None) -> list[str]:
    if effect is None:
        return [NO_VALUE] * 4
    detectable = "more than 100" if effect.detectable is None else f"{100 * effect.detectable:.1f}"
    return [_gap(effect.minority), p_cell(effect.holm), detectable, _gap(effect.others)]


def _gap(paired: Paired) -> str:
    low, high = paired.interval.low, paired.interval.high
    return f"{100 * paired.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def against_members(run_ids: set[str], comparisons: Sequence[Comparison]) -> list[str]:
    """Return a sentence for each ensemble among some runs: its accuracy against that of its best member."""
    lines = []
    for comparison in comparisons:
        for row in comparison.compared:
            if row.first.ensemble is None or not run_ids & {record.run_id for record in row.records}:
                continue
            members = members_of(row, comparison.compared)
            best = max(members, key=lambda member: member.accuracy, default=None)
            if best is not None:
                assert best.right is not None
                assert row.right is not None
                paired = compare_pair(best.right, row.right, comparison.groups)
                gap = difference_text(paired.difference, paired.interval.low, paired.interval.high)
                kind = "significant" if paired.p_value <= ALPHA else "no significant difference"
                lines.append(
                    f"{row.name} against its best member, {best.name}: {gap}; "
                    f"p {p_cell(paired.p_value)}: {kind}. The member was chosen by its accuracy on test."
                )
    return lines


def diversity_table(comparison: Comparison) -> list[str]:
    """Return how often pairs of rows disagree and are both wrong, if the table has an ensemble, as Markdown."""
    rows = [row for row in comparison.compared if row.first.ensemble is None][:MOST_DIVERSE]
    if not any(row.first.ensemble for row in comparison.compared) or len(rows) < 2:  # noqa: PLR2004 - a pair
        return []
    cells = [[_diversity(row, other) for other in rows] for row in rows]
    lines = [[code(row.name), *line] for row, line in zip(rows, cells, strict=True)]
    words = (
        "Share of test images, in %, on which exactly one of the two is right (disagreement) / both are wrong (double "
        "fault); mean over the seeds that both have. Members gain from disagreement, and no vote mends a double fault."
    )
    return [*table(["Disagreement / double fault", *(code(row.name) for row in rows)], lines), "", words]


def _diversity(first: Row, second: Row) -> str:
    if first is second:
        return NO_VALUE
    others = {checkpoint.seed: checkpoint.predictions for checkpoint in second.checkpoints}
    pairs = [
        (checkpoint.predictions, others[checkpoint.seed])
        for checkpoint in first.checkpoints
        if others.get(checkpoint.seed)
    ]
    both = [
        (predictions.right, other.right)
        for predictions, other in pairs
        if predictions is not None and other is not None
    ]
    if not both:
        return "no common seed"
    disagreement = np.mean([right != other for right, other in both])
    fault = np.mean([~right & ~other for right, other in both])
    return f"{100 * disagreement:.1f} / {100 * fault:.1f}"
