"""Records to leaderboard.md and leaderboard.csv; nothing is typed by hand, nothing is read but records."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.comparison.analysis import Findings, accuracy, read, small_classes, worst_class
from bench.comparison.sessions import Sessions
from bench.comparison.speeds import runtimes_of, shown, why_not
from bench.comparison.tables import Entry
from bench.leaderboard import spreadsheet
from bench.leaderboard.cells import NO_VALUE, accuracy_cell, latency_cell, score_cell, text_cell
from bench.leaderboard.details import checkpoint_table, class_table, facts, pair_table, pareto_table, scorings
from bench.leaderboard.latency_table import latency_table
from bench.leaderboard.summary import paragraph, power_line
from bench.leaderboard.tuning_table import tuning_table
from bench.records.store import write_text
from bench.runs import failures

FAILED: Final = "failed"

ALWAYS_SHOWN: Final = 4
"""Columns that stay although nothing may be in them: group, model, init, seeds."""

_INTRODUCTION: Final = """Made by `python -m bench leaderboard` from {count} record(s); nothing here is typed by hand.
A row is a setting of one model; several seeds are one row, their mean. Groups: 1 is all that the top score cannot be
told apart from (exact McNemar on the same test images, Holm over all pairs of the table), 2 the same among the
rest. Within a group rows are sorted by latency, not by accuracy.
"""

_LEGEND: Final = """## How to read it

Accuracies, F1, recalls, balanced accuracy and ECE are per cent; log loss is in nats; every interval is a 95 % one.
Accuracy and recall of one checkpoint have Wilson's interval over test images; macro-F1 and balanced accuracy a
bootstrap of the test images of each class (10,000 resamples, BCa), too short for small classes (under 30 test images).
A mean over seeds has a t interval over seeds ("t"), which leaves out what other test images would give, and the
least and the most of them; a recall over seeds has Wilson's of one. The worst class was chosen for being the worst, so
its interval is one for all classes at once. The test of a pair: one checkpoint each, exact McNemar; two to four seeds,
the test that flips the sign of an image's difference (exact while both have as many seeds, nearly so elsewhere); five
and more, Welch's t over seeds and images. Intervals of pairs are
unadjusted: p (Holm) decides. Minority classes are a test of their own, with a Holm of its own. The table
speaks of these checkpoints below five seeds, of models from there on. Val selected the epoch: its scores are flattered.
"always ..." answers the class with the most training images. T is the temperature that val asks for, and the log loss
at T that test then shows. ECE has 15 equal-width bins; "if calibrated" is what a model as sure as this one, and never
wrong about it, would show on as many images (mean, and 95th percentile, of 2,000 simulations).
`init: random` means that the model started from a seed and not from pre-trained weights.
GMACs are 1e9 fused multiply-adds an image as fvcore counts them (FLOPs = 2 x MACs), at the run's own input size,
without Inception's auxiliary head. Training seconds leave evaluation out.
Latency is the host's clock around input on the host to logits on the host, one picture at a time, after a warm-up,
alone on the machine among runs of this harness, n queries; one thread unless a cell says otherwise. "quick" is one
short round of run-all, not validated; after "±" stands half the width of the 95 % interval over the five rounds of
`python -m bench measure`, relative to their mean. "~" marks a row that is worse than its session; an invalid row shows
no figure. Of several seeds' latencies the main table shows the one of the best validity, then the first seed's.
"p90 at most" is LoadGen's bound with confidence 0.99. Cold start and memory are of one fresh process.
A reduced precision is refused where the upper bound of its paired difference of accuracy lies below -1 point.
"""


def write(results: Path, *, warn: Callable[[str], None]) -> list[Findings]:
    """Write ``leaderboard.md`` and ``leaderboard.csv`` from all records of a results folder; give what they show."""
    found = read(results, warn=warn)
    for name, text in (("leaderboard.md", markdown(found)), ("leaderboard.csv", spreadsheet.text(found))):
        write_text(text, results / name)
    return found


def markdown(found: Sequence[Findings]) -> str:
    """Give the whole page."""
    count = sum(len(one.board.records) for one in found)
    return "\n".join(["# Leaderboard\n", _INTRODUCTION.format(count=count), *map(_section, found), _LEGEND])


def _section(found: Findings) -> str:
    first = found.board.first
    heading = f"## {text_cell(first.dataset.name)}, recipe {first.config.recipe}, {first.environment.machine}\n"
    lines = [heading, text_cell(paragraph(found)), "", text_cell(power_line(found)), "", *main_table(found), ""]
    for title, part in detail_tables(found).items():
        lines += [f"### {title}\n", *part, ""] if part else []
    return "\n".join(lines)


def main_table(found: Findings) -> list[str]:
    """Give the main table, and below it why runs failed, as markdown lines."""
    rows = [_row(entry, found) for entry in found.ordered]
    return [*_table([*rows, _majority_row(found)]), "", *_failures(found)]


def detail_tables(found: Findings) -> dict[str, list[str]]:
    """Give the parts below the main table by title, as markdown lines; some may be empty."""
    board = found.board
    return {
        "How it was measured": [*facts(board), f"- Test: {scorings(board)}"],
        "Pairs": pair_table(found),
        "Checkpoints": checkpoint_table(found),
        "Classes": class_table(found.ordered),
        "Pareto fronts": pareto_table(found),
        "Latency": latency_table(board),
        "Tuning": tuning_table(board.records),
    }


def _row(entry: Entry, found: Findings) -> dict[str, str]:
    group_number = found.group_of(entry)
    row = {
        "Group": str(group_number or NO_VALUE),
        "Model": entry.name,
        "Init": entry.init,
        "Seeds": ", ".join(str(checkpoint.seed) for checkpoint in entry.checkpoints) or NO_VALUE,
    }
    if not entry.checkpoints:
        return row | {"Test top-1 (95 %)": FAILED if not entry.incomplete else "; ".join(entry.incomplete)}
    outcome, worst = entry.outcome, worst_class(entry)
    times = [sum(o.training.train_time_s for o in one.outcomes) for one in entry.checkpoints]
    note = "" if group_number else ", no predictions at hand"
    return row | {
        "Test top-1 (95 %)": score_cell(accuracy(entry)) + note,
        _f1_title(found): score_cell(found.macro_f1(entry)),
        "Worst class (95 % for all)": f"{worst[0]}: {score_cell(worst[1])}" if worst else NO_VALUE,
        "Params, M": f"{outcome.model.num_params / 1e6:.2f}",
        "GMACs": f"{outcome.model.gmacs:.3f}",
        **{
            f"{runtime} p50 / p90": _latency(entry, runtime, found.board.sessions)
            for runtime in runtimes_of(found.board)
        },
        "Training, s": f"{sum(times) / len(times):.0f}",
    }


def _f1_title(found: Findings) -> str:
    return "Macro-F1 (95 %; small class)" if small_classes(found.board) else "Macro-F1 (95 %)"


def _latency(entry: Entry, runtime: str, sessions: Sessions) -> str:
    """Give the figure that is shown of a runtime, or why there is none: failed, refused and unmeasured ones say so."""
    row = shown(entry, runtime)
    if row is not None:
        threads = row[1].num_threads
        return ("" if threads in {None, 1} else f"{threads} threads: ") + latency_cell(row[1], sessions)
    instead = why_not(entry, runtime)
    return instead if isinstance(instead, str) else latency_cell(instead, sessions)


def _majority_row(found: Findings) -> dict[str, str]:
    always = found.board.majority
    return {
        "Model": f"always {always.class_name}",
        "Test top-1 (95 %)": accuracy_cell(always.top1_accuracy, found.number),
        _f1_title(found): f"{100 * always.macro_f1:.1f}",
    }


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Lay out a markdown table; a column that no row has anything in is left out."""
    named = dict.fromkeys(name for row in rows for name in row)
    filled = {name for row in rows for name, cell in row.items() if cell not in {"not measured", NO_VALUE}}
    shown_columns = [name for place, name in enumerate(named) if place < ALWAYS_SHOWN or name in filled]
    lines = [f"| {' | '.join(shown_columns)} |", "|--:|---|---|---|" + "--:|" * (len(shown_columns) - ALWAYS_SHOWN)]
    return lines + [f"| {' | '.join(text_cell(row.get(name, NO_VALUE)) for name in shown_columns)} |" for row in rows]


def _failures(found: Findings) -> list[str]:
    lines = [
        f"- Failed: {text_cell(entry.name)} (seed {record.config.seed}): "
        + text_cell(failures.last_line(record.error or ""))
        for entry in found.board.entries
        for record in entry.records
        if record.outcome is None
    ]
    lines += [
        f"- Incomplete, and so left out: {text_cell(entry.name)}, {text_cell('; '.join(entry.incomplete))}"
        for entry in found.board.entries
        if entry.incomplete
    ]
    return [*lines, ""] if lines else []
