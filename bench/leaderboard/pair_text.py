"""Two entries or runs side by side, on the same test images."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.comparison.analysis import Findings, accuracy, macro_f1, minority_classes, recalls
from bench.comparison.compare import Side, choose
from bench.comparison.speeds import ratio, runtimes_of, shown
from bench.comparison.tables import Checkpoint
from bench.leaderboard.cells import NO_VALUE, score_cell
from bench.leaderboard.details import p_cell
from bench.leaderboard.summary import points, power_text
from bench.recipes import budget_text
from bench.stats.macro import MacroIntervals, macro_intervals
from bench.stats.pairs import ALPHA, Paired, compare, speaks_of_models
from bench.stats.power import power_of


def show(names: tuple[str, str], found: Sequence[Findings], console: Console) -> int:
    """Print the paired comparison of two entries or runs; raises ConfigError where they cannot be compared."""
    first, second = choose(names, found)
    paired = compare(first.right, second.right)
    title = f"{second.name} against {first.name}: {first.board.key.dataset}, {first.right.shape[1]:,} test images"
    console.print(title, markup=False)
    console.print(_scores(first, second))
    if len(first.right) == len(second.right) == 1:
        console.print(_both(first.right[0], second.right[0]))
    console.print(_classes(first, second))
    for line in [*_tests(first, second, paired), *_times(first, second), *_minority(first, second)]:
        console.print(line, markup=False)
    return 0


def _scores(first: Side, second: Side) -> Table:
    table = Table("", escape(first.name), escape(second.name))
    table.add_row("Test top-1 % (95 %)", *(score_cell(accuracy(side.entry)) for side in (first, second)))
    table.add_row("Macro-F1 % (95 %)", *(score_cell(macro_f1(side.entry, _intervals)) for side in (first, second)))
    table.add_row("Init", first.entry.init, second.entry.init)
    table.add_row("Recipe", *(side.entry.first.base.recipe for side in (first, second)))
    table.add_row("Budget", *(budget_text(side.board.key.budget) for side in (first, second)))
    return table


def _intervals(checkpoint: Checkpoint) -> MacroIntervals:
    return macro_intervals(checkpoint.confusion)


def _both(first: np.ndarray, second: np.ndarray) -> Table:
    table = Table("Images", "second right", "second wrong")
    for title, rows in (("first right", first), ("first wrong", ~first)):
        table.add_row(title, str(int((rows & second).sum())), str(int((rows & ~second).sum())))
    return table


def _classes(first: Side, second: Side) -> Table:
    table = Table("Recall % (95 %)", "Images", escape(first.name), escape(second.name))
    columns = [recalls(side.entry) for side in (first, second)]
    for label, class_name in enumerate(first.entry.first.dataset.class_names):
        cells = [score_cell(score) if (score := column[label]) else NO_VALUE for column in columns]
        table.add_row(escape(class_name), str(first.board.test_counts[label]), *cells)
    return table


def _tests(first: Side, second: Side, paired: Paired) -> list[str]:
    told = "told apart" if paired.p_value <= ALPHA else "not told apart"
    what = "these models" if speaks_of_models(first.right, second.right) else "these checkpoints"
    difference = points(paired.difference, paired.interval.low, paired.interval.high)
    power = power_of([first.right, second.right])
    lines = [
        f"Accuracy: {difference}; {_p_words(first, second, paired)}: {what} are {told}.",
        "One pair, no correction: who looks at several pairs goes by the leaderboard, which corrects for all (Holm).",
        power_text(power),
    ]
    if first.entry.init != second.entry.init:
        lines.append("They start from unlike weights: this compares starts as much as architectures.")
    if first.board.key != second.board.key:
        lines.append("They come from unlike tables (budget, image size or machine): this compares those too.")
    return lines


def _p_words(first: Side, second: Side, paired: Paired) -> str:
    """Name the test behind a p value."""
    if speaks_of_models(first.right, second.right):
        return f"p {p_cell(paired.p_value)} (Welch's t over seeds and images)"
    kind = "exact p" if len(first.right) == len(second.right) else "p (unlike numbers of seeds)"
    return f"{kind} {p_cell(paired.p_value)}, mid-p {p_cell(paired.mid_p)}"


def _times(first: Side, second: Side) -> list[str]:
    lines = []
    for runtime in runtimes_of(first.board):
        rows = [shown(side.entry, runtime) for side in (first, second)]
        if rows[0] is None or rows[1] is None:
            continue
        within = ratio(rows[1][1], rows[0][1])
        if within is not None:
            low, high = within.interval.low, within.interval.high
            lines.append(
                f"{runtime}: {within.value:.3f} x the time of {first.name} ({low:.3f} to {high:.3f}, in rounds)"
            )
        else:
            lines.append(f"{runtime}: not timed in the same rounds; python -m bench measure times them together")
    return lines


def _minority(first: Side, second: Side) -> list[str]:
    classes = minority_classes(first.board)
    rows = np.isin(first.answers.labels, classes) if first.answers is not None else np.zeros(0, dtype=bool)
    names = ", ".join(first.entry.first.dataset.class_names[label] for label in classes)
    if not classes:
        return ["No class has under half of the median class's images: there is no minority to look at."]
    if not rows.any():
        return [f"Minority ({names}): no test image, so nothing is shown."]
    paired = compare(first.right[:, rows], second.right[:, rows])
    difference = points(paired.difference, paired.interval.low, paired.interval.high)
    return [f"Minority ({names}; {rows.sum()} images): {difference}; {_p_words(first, second, paired)}"]
