"""Records to leaderboard.md and leaderboard.csv; nothing is typed by hand, nothing is read but records."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.comparison.analysis import Comparison, accuracy, read, worst_class
from bench.comparison.speeds import runtimes_of
from bench.comparison.tables import Row
from bench.leaderboard import spreadsheet
from bench.leaderboard.cells import (
    LATENCY_COLUMNS,
    NO_VALUE,
    accuracy_cell,
    code,
    latency_text,
    median_cell,
    score_cell,
    table,
)
from bench.leaderboard.details import checkpoint_table, class_table, facts, pair_table, pareto_table
from bench.leaderboard.latency_table import latency_table
from bench.leaderboard.summary import summary
from bench.leaderboard.tuning_table import tuning_table
from bench.recipes import budget_text
from bench.records.paths import Paths
from bench.runs import failures
from imgcls.files import write_text

FAILED: Final = "failed"

COLUMNS: Final = (
    "Rank",
    "Model",
    "Setting",
    "Top-1 % (95 % CI)",
    "Macro-F1 %",
    "Params (M)",
    "GMACs",
    *LATENCY_COLUMNS,
)

_INTRODUCTION: Final = """Made by `python -m bench leaderboard` from {count} record(s); nothing here is typed by hand.
A row is one setting of one model; several seeds are one row, their mean. Rank is a 95 % rank interval: 1 plus the rows
significantly better, to the number of rows less those significantly worse (exact McNemar on the same test images for
single seeds, Holm over all pairs of the table). Rows are sorted by accuracy.
"""

_LEGEND: Final = """## How to read it

Accuracies, F1, recalls, balanced accuracy and ECE are per cent; log loss is in nats; every interval is a 95 % one.
Accuracy and recall of one checkpoint have Wilson's interval over test images; macro-F1 and balanced accuracy a
bootstrap of the test images of each class (10,000 resamples, BCa), too short for small classes (under 30 test images).
A mean over seeds that differ has a t interval over seeds ("t"), which leaves out what other test images would give,
and the least and the most of them; a recall over seeds has Wilson's of one. The worst class is selected for its low
recall, so its interval is simultaneous over all classes. The test of a pair: one checkpoint each, exact McNemar; two
to four seeds, a sign-flip test of the images' differences (exact where both rows have as many seeds, else
approximate); five and more, Welch's t over seeds and images. Intervals of pairs are unadjusted: p (Holm) decides.
Minority classes have a test and a Holm correction of their own. Conclusions hold for these checkpoints below five
seeds, for the models from there on. Val selected the epoch or, where tuned, the setting: its scores are optimistic.
The majority-class baseline always answers the class with the most training images. T is the temperature fitted on val;
"Log loss at T" is measured on test. ECE has 15 equal-width bins; "if calibrated" is the ECE that a perfectly calibrated
model with these confidences would show on as many images (mean, and 95th percentile, of 2,000 simulations).
`weights=random` means that the model started from a seed and not from pre-trained weights.
GMACs are 1e9 fused multiply-adds an image as fvcore counts them (FLOPs = 2 x MACs), at the run's own input size,
without Inception's auxiliary head. Training seconds leave evaluation out.
Latency is the host's clock around input on the host to logits on the host, one picture at a time, after a warm-up,
alone on the machine among runs of this harness, n queries; one thread unless a cell says otherwise. "quick" is one
short round of run-all, not validated; after "±" stands half the width of the 95 % interval over the five rounds of
`python -m bench measure`, relative to their mean. "~" marks a row that is worse than its session; an invalid row shows
no figure. Of several seeds' latencies the main table shows that of the best validity, the fewest threads, the first
seed. "p90 at most" is LoadGen's bound with confidence 0.99. Cold start and memory are of one fresh process.
A reduced precision is refused where the upper bound of its paired difference of accuracy lies below -1 pp.
"""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: all that is read stays, and going through it again and again takes a tenth."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@_uncollected()
def write(results: Path) -> list[Comparison]:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` from all records of a results folder; return what they show."""
    comparisons = read(results)
    paths = Paths(results=results)
    write_text(markdown(comparisons), paths.leaderboard)
    write_text(spreadsheet.text(comparisons), paths.spreadsheet)
    return comparisons


def markdown(comparisons: Sequence[Comparison]) -> str:
    """Return the whole page."""
    count = sum(len(comparison.table.records) for comparison in comparisons)
    return "\n".join(["# Leaderboard\n", _INTRODUCTION.format(count=count), *map(_section, comparisons), _LEGEND])


def heading(comparison: Comparison) -> str:
    """Return what a table compares, in plain text: data, budget, machine, and the id that commands take."""
    key = comparison.table.key
    return f"{key.dataset}: {budget_text(key.budget)}; {key.machine}; table {key.id}"


def _section(comparison: Comparison) -> str:
    key = comparison.table.key
    title = f"## {code(key.dataset)}: {budget_text(key.budget)}; {key.machine}; table {code(key.id)}\n"
    lines = [title, *(f"{sentence}  " for sentence in summary(comparison, code)), "", *main_table(comparison), ""]
    for name, part in detail_tables(comparison).items():
        lines += [f"### {name}\n", *part, ""] if part else []
    return "\n".join(lines)


def main_table(comparison: Comparison) -> list[str]:
    """Return the main table of nine columns as Markdown; a failed run is a row with its reason."""
    rows = [_row(row, comparison) for row in comparison.ordered]
    return table(COLUMNS, [*rows, _majority_row(comparison)], left=3, keep=len(COLUMNS))


def detail_tables(comparison: Comparison, *, sweeps: str = "sweeps") -> dict[str, list[str]]:
    """Return the parts below the main table by title, as Markdown lines; some may be empty.

    ``sweeps`` is the folder of studies as seen from the page that shows them.
    """
    compared = comparison.table
    return {
        "How it was measured": facts(compared),
        "Rows": row_table(comparison),
        "Pairs": pair_table(comparison),
        "Checkpoints": checkpoint_table(comparison),
        "Classes": class_table(comparison.ordered),
        "Pareto fronts": pareto_table(comparison),
        "Latency": latency_table(comparison.ordered, compared.sessions),
        "Tuning": tuning_table(compared.records, sweeps=sweeps),
        "Failed": _failures(comparison),
    }


def _row(row: Row, comparison: Comparison) -> list[str]:
    rank = comparison.rank_of(row)
    start = [str(rank or NO_VALUE), code(row.first.config.model), ", ".join(map(code, row.setting)) or NO_VALUE]
    if not row.checkpoints:
        return [*start, why_failed(row), *[NO_VALUE] * (len(COLUMNS) - 4)]
    model = row.outcome.model
    note = "" if rank else ", no predictions at hand"
    return [
        *start,
        score_cell(accuracy(row)) + note,
        score_cell(comparison.macro_f1(row)),
        f"{model.num_params / 1e6:.2f}",
        f"{model.gmacs:.3f}",
        *(median_cell(row, runtime, comparison.table.sessions) for runtime in LATENCY_COLUMNS.values()),
    ]


def why_failed(row: Row) -> str:
    """Return why a row has no score: what is missing of its folds, or the last line of its error."""
    if row.incomplete:
        return f"incomplete: {'; '.join(row.incomplete)}"
    errors = [failures.last_line(record.error) for record in row.records if record.error]
    return f"{FAILED}: {code(errors[0])}" if errors else FAILED


def _majority_row(comparison: Comparison) -> list[str]:
    majority = comparison.table.majority
    return [
        NO_VALUE,
        "majority-class baseline",
        code(majority.class_name),
        accuracy_cell(majority.top1_accuracy, comparison.number),
        f"{100 * majority.macro_f1:.1f}",
        *[NO_VALUE] * (len(COLUMNS) - 5),
    ]


def row_table(comparison: Comparison) -> list[str]:
    """Return what else the rows have in common over their seeds: initialisation, worst class, cost, all runtimes."""
    runtimes = runtimes_of(comparison.table)
    columns = ["Model", "Init", "Seeds", "Seeds' top-1 %", "Worst class % (simultaneous 95 % CI)", "Training, s"]
    lines = [
        [*_over_seeds(row), *(latency_text(row, runtime, comparison.table.sessions) for runtime in runtimes)]
        for row in comparison.ordered
        if row.checkpoints
    ]
    return table([*columns, *(f"{name} p50 / p90" for name in runtimes)], lines)


def _over_seeds(row: Row) -> list[str]:
    worst, score = worst_class(row), accuracy(row)
    times = [sum(outcome.training.train_time_s for outcome in one.outcomes) for one in row.checkpoints]
    return [
        code(row.name),
        row.init,
        ", ".join(str(checkpoint.seed) for checkpoint in row.checkpoints),
        f"{100 * score.least:.1f} to {100 * score.most:.1f}" if score.over_seeds else NO_VALUE,
        f"{code(worst[0])}: {score_cell(worst[1])}" if worst else NO_VALUE,
        f"{sum(times) / len(times):.0f}",
    ]


def _failures(comparison: Comparison) -> list[str]:
    lines = [
        f"- {code(row.name)} (seed {record.config.seed}): {code(failures.last_line(record.error or ''))}"
        for row in comparison.table.rows
        for record in row.records
        if record.outcome is None
    ]
    lines += [
        f"- Incomplete, so not compared: {code(row.name)}, {'; '.join(row.incomplete)}"
        for row in comparison.table.rows
        if row.incomplete
    ]
    return lines
