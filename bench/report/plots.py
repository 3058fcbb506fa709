"""Plots of the report. Each function draws one of a comparison; some return None if there is no data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.comparison.analysis import Comparison
from bench.comparison.pareto import Cost
from bench.comparison.scores import accuracy, recalls
from bench.comparison.speeds import runtime_text, runtimes_of, shown
from bench.comparison.tables import Checkpoint, Row
from bench.leaderboard.cells import validity_word
from bench.report.drawing import INK, PANEL, colour, logarithmic, name_inches, panels
from bench.stats.groups import meaningful, proportion_interval
from imgcls.evaluation.binning import ece_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _numbered(comparison: Comparison) -> list[tuple[int, Row]]:
    """Return the rows with checkpoints, each with its number, from which its colour in every plot is derived."""
    return list(enumerate(row for row in comparison.table.rows if row.checkpoints))


def _compared(comparison: Comparison) -> list[tuple[int, Row]]:
    # Filtered after numbering, so that a row keeps its colour if others have no predictions.
    return [(place, row) for place, row in _numbered(comparison) if comparison.rank_of(row)]


def learning_curves(comparison: Comparison) -> Figure:
    """Draw losses, val accuracy and learning rate over epochs, one line per run."""
    figure, axes = panels(4, columns=4)
    wanted = (("train loss", "train_loss"), ("val loss", "val_loss"), ("val top-1", "val_top1_accuracy"), ("lr", "lr"))
    for place, row in _numbered(comparison):
        histories = [outcome.training.history for one in row.checkpoints for outcome in one.outcomes]
        for number, history in enumerate(histories):
            for axis, (_, field) in zip(axes, wanted, strict=True):
                # One entry of the legend per row, not per run and panel.
                label = row.name if number == 0 and axis is axes[0] else None
                values = [getattr(epoch, field) for epoch in history]
                axis.plot([e.epoch for e in history], values, ".-", color=colour(place), alpha=0.8, label=label)
    for axis, (title, _) in zip(axes, wanted, strict=True):
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Schedules change the learning rate by factors.
    logarithmic(axes[3], along="y")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def pareto(comparison: Comparison) -> Figure | None:
    """Draw accuracy against each cost, with the intervals of both; None if no row is compared."""
    every = comparison.fronts
    if not every:
        return None
    places = {row.row_id: place for place, row in _numbered(comparison)}
    figure, axes = panels(len(every))
    for axis, front in zip(axes, every, strict=True):
        for row, cost, chance in zip(front.rows, front.costs, front.probabilities, strict=True):
            _point(axis, row, cost, chance, shade=colour(places[row.row_id]))
        logarithmic(axis)
        axis.set_xlabel(front.title)
        axis.set_ylabel("test top-1, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _point(axis: "Axes", row: Row, cost: Cost, chance: float, *, shade: object) -> None:
    score = accuracy(row)
    # A t interval over seeds may extend beyond 0 and 1.
    low, high = max(score.interval.low, 0.0), min(score.interval.high, 1.0)
    # errorbar takes distances from the value, and refuses negative ones, which rounding may give.
    sideways = (
        None
        if cost.interval is None
        else [[max(cost.value - cost.interval.low, 0)], [max(cost.interval.high - cost.value, 0)]]
    )
    axis.errorbar(
        [cost.value],
        [100 * score.value],
        yerr=[[100 * (score.value - low)], [100 * (high - score.value)]],
        xerr=sideways,
        fmt="o",
        color=shade,
        alpha=0.35 + 0.65 * chance,
        capsize=2,
        label=row.name,
    )
    axis.annotate(
        f"{100 * chance:.0f} %", (cost.value, 100 * score.value), (4, 4), textcoords="offset points", fontsize=7
    )


def recall_bars(comparison: Comparison) -> Figure:
    """Draw the recall of each class with its interval, one panel per row."""
    done = _numbered(comparison)
    names = comparison.table.first.dataset.class_names
    height = max(1.2, 0.17 * len(names))
    # Without constrained layout, which measures every label: minutes with hundreds of classes. The space of the labels
    # is estimated instead.
    figure, axes = panels(len(done), height=height + 0.9, layout=None)
    room, (across, down) = name_inches(names), figure.get_size_inches()
    spaces = {"wspace": room / (PANEL * 1.2 - room), "hspace": 0.9 / height}
    figure.subplots_adjust(left=room / across, right=1 - 0.2 / across, bottom=0.5 / down, top=1 - 0.4 / down, **spaces)
    # Sorted by the first row's recall, so that the weakest classes of many are found at the top of every panel.
    first = [score.value if score else 2.0 for score in recalls(done[0][1])]
    order = sorted(range(len(names)), key=lambda label: first[label])
    places = np.argsort(order)
    labels = [names[label] for label in order]
    for axis, (number, row) in zip(axes, done, strict=True):
        # A class without test images has no recall, but keeps its line, so that all panels have the same classes.
        known = [(place, score) for place, score in zip(places, recalls(row), strict=True) if score is not None]
        values = np.array([100 * score.value for _, score in known])
        ends = 100 * np.array([(score.interval.low, score.interval.high) for _, score in known]).reshape(-1, 2)
        axis.barh([place for place, _ in known], values, color=colour(number), alpha=0.6)
        spread = np.maximum([values - ends[:, 0], ends[:, 1] - values], 0)
        axis.errorbar(values, [place for place, _ in known], xerr=spread, fmt="none", ecolor=INK, elinewidth=1)
        axis.set_yticks(range(len(labels)), labels)
        # Inverted: the first class at the top.
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set_xlim(0, 100)
        axis.set_title(row.name)
        axis.set_xlabel("recall, %")
    return figure


def latencies(comparison: Comparison) -> Figure | None:
    """Draw the cumulative distribution of latencies, one panel per runtime; None if nothing was measured."""
    done = _numbered(comparison)
    runtimes = [name for name in runtimes_of(comparison.table.rows) if any(shown(entry, name) for _, entry in done)]
    if not runtimes:
        return None
    figure, axes = panels(len(runtimes), height=PANEL + 0.16 * len(done))
    # At fixed percentiles: a step for each of thousands of queries would make the SVG many times larger.
    shares = np.linspace(0, 100, 201)
    for axis, runtime in zip(axes, runtimes, strict=True):
        for place, entry in done:
            row = shown(entry, runtime)
            if row is not None:
                label = f"{entry.name}: {validity_word(row[1])}, n={row[1].num_queries}"
                axis.plot(np.percentile(row[1].samples_ms, shares), shares, color=colour(place), label=label)
        logarithmic(axis)
        axis.set_title(runtime_text(runtime, comparison.table))
        axis.set_xlabel("ms, one image at a time")
        axis.set_ylabel("% of queries")
        axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.2))
    return figure


def reliability(comparison: Comparison) -> Figure | None:
    """Draw reliability diagrams of the first seeds: accuracy over confidence, in 15 bins, with Wilson intervals."""
    known = _compared(comparison)
    if not known:
        return None
    figure, axes = panels(len(known), columns=4, height=PANEL * 0.9)
    for axis, (place, row) in zip(axes, known, strict=True):
        answers = row.checkpoints[0].answers
        assert answers is not None
        bins = ece_bins(answers.p_predicted)
        for one in np.unique(bins):
            inside = bins == one
            right = answers.right[inside]
            share, sure = float(right.mean()), proportion_interval(right, meaningful(answers.group[inside]))
            spread = [[share - sure.low], [sure.high - share]]
            # At the mean confidence of the bin, as in the definition of ECE, and not at its centre.
            confidence = float(answers.p_predicted[inside].mean())
            axis.errorbar([confidence], [share], yerr=np.maximum(spread, 0), fmt="o", color=colour(place), ms=4)
        axis.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.8)
        axis.set_title(f"{row.name}, seed {row.checkpoints[0].seed}")
        axis.set_xlabel("confidence")
        axis.set_ylabel("accuracy")
    return figure


def risk_coverage(comparison: Comparison) -> Figure | None:
    """Draw risk-coverage curves: the error rate of the most confident predictions over their share of all images."""
    if not comparison.compared:
        return None
    figure, (axis,) = panels(1)
    for place, row in _compared(comparison):
        for checkpoint in row.checkpoints:
            answers = checkpoint.answers
            assert answers is not None
            order = np.argsort(-answers.p_predicted, kind="stable")
            answered = np.arange(1, len(order) + 1)
            risk = 100 * np.cumsum(~answers.right[order]) / answered
            # At most 400 points of each curve, to limit the size of the SVG with many test images.
            kept = np.unique(np.linspace(0, len(order) - 1, 400).astype(int))
            label = row.name if checkpoint is row.checkpoints[0] else None
            axis.plot(100 * answered[kept] / len(order), risk[kept], color=colour(place), alpha=0.8, label=label)
    axis.set_xlabel("coverage, % of test images, most confident first")
    axis.set_ylabel("risk (error rate), %")
    axis.legend(fontsize=7)
    return figure


def confusion(checkpoint: Checkpoint, names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix; each row is normalised by the number of images of its true class."""
    counts = checkpoint.confusion
    # Placed by hand, for the same reason as in ``recall_bars``.
    side, room = max(2.5, min(0.25 * len(names), 13)), name_inches(names) + 0.3
    figure = Figure(figsize=(side + room + 0.2, side + room + 0.4))
    width, height = figure.get_size_inches()
    axis = figure.add_axes((room / width, room / height, side / width, side / height))
    # Divided by at least 1: a class without test images is a row of zeros.
    axis.imshow(
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues", interpolation="none"
    )
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    axis.set_title(title)
    return figure
