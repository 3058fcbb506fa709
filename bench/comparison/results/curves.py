"""The curves of a table as plain data: by epoch and by cost of training, of latencies, reliability, risk-coverage."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from bench.comparison.analysis import Comparison
from bench.comparison.costs import cost_so_far
from bench.comparison.latencies.figures import validity_of
from bench.comparison.latencies.speeds import runtimes_of, shown
from bench.comparison.rows import Row
from bench.stats.groups import meaningful, proportion_interval
from imgcls.evaluation.binning import ece_bins

POINTS: Final = 200
"""Points of a risk-coverage curve and of a distribution of latencies."""

Json = dict[str, Any]


def curves_of(comparison: Comparison) -> Json:
    """Return the curves of a table's rows by their kind."""
    return {
        "learning": _learning(comparison),
        "cost": _cost(comparison),
        "latency": _latencies(comparison),
        "reliability": _reliability(comparison),
        "risk": _risk(comparison),
    }


def _scored(comparison: Comparison) -> list[Row]:
    return [row for row in comparison.ordered if row.checkpoints]


def _band(x: Iterable[float], runs: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return points [x, mean, least, most] over runs; as far as all of them go."""
    return [
        [round(position, 5), float(np.mean(values)), min(values), max(values)]
        for position, *values in zip(x, *runs, strict=False)
        if all(map(math.isfinite, values))
    ]


def _learning(comparison: Comparison) -> list[Json]:
    """Return loss on train and val, accuracy on val (%) and learning rate of each row by epoch."""
    fields = {"train_loss": 1, "val_loss": 1, "val_top1_accuracy": 100, "lr": 1}
    curves = []
    for row in _scored(comparison):
        outcomes = [outcome for checkpoint in row.checkpoints for outcome in checkpoint.outcomes]
        histories = [outcome.training.history for outcome in outcomes if outcome.training.history]
        if histories:
            series = {
                field.removesuffix("_accuracy"): _band(
                    [epoch.epoch for epoch in histories[0]],
                    [[scale * getattr(epoch, field) for epoch in history] for history in histories],
                )
                for field, scale in fields.items()
            }
            curves.append({"id": row.row_id, "series": series})
    return curves


def _cost(comparison: Comparison) -> list[Json]:
    """Return accuracy on val by minutes and by compute of training, of each row."""
    curves = []
    for row in _scored(comparison):
        costs = [
            cost_so_far(record)
            for checkpoint in row.checkpoints
            for record in checkpoint.records
            if row.first.ensemble is None
        ]
        if costs and all(costs):
            series = {}
            for column, unit in enumerate(("minutes", "tmacs")):
                length = min(map(len, costs))
                x = [float(np.mean([cost[epoch][column] for cost in costs])) for epoch in range(length)]
                series[unit] = _band(x, [[100 * accuracy for _, _, accuracy in cost] for cost in costs])
            curves.append({"id": row.row_id, "series": series})
    return curves


def _latencies(comparison: Comparison) -> list[Json]:
    """Return percentiles of latency of each row and runtime on the measuring machine of the table."""
    shares = np.linspace(0, 100, POINTS + 1)
    return [
        {
            "id": row.row_id,
            "runtime": runtime,
            "words": f"{validity_of(timed[1])}, {timed[1].num_queries:,} queries",
            "points": [
                [float(f"{ms:.4g}"), share]
                for ms, share in zip(np.percentile(timed[1].samples_ms, shares).tolist(), shares.tolist(), strict=True)
            ],
        }
        for row in _scored(comparison)
        for runtime in runtimes_of(comparison.table.rows)
        if (timed := shown(row, runtime)) is not None
    ]


def _reliability(comparison: Comparison) -> list[Json]:
    """Return [confidence, accuracy, low, high, images] of each bin of confidence, for the first seed of each row."""
    diagrams = []
    for row in comparison.compared:
        predictions = row.checkpoints[0].predictions
        if predictions is None:
            continue
        bins, points = ece_bins(predictions.p_predicted), []
        for bin_number in np.unique(bins):
            inside = bins == bin_number
            right = predictions.right[inside]
            sure = proportion_interval(right, meaningful(predictions.group[inside]))
            # At the mean confidence of the bin, as in the definition of ECE, and not at its centre.
            values = (predictions.p_predicted[inside].mean(), right.mean(), sure.low, sure.high)
            points.append([round(100 * float(value), 2) for value in values] + [int(inside.sum())])
        diagrams.append({"id": row.row_id, "points": points})
    return diagrams


def _risk(comparison: Comparison) -> list[Json]:
    """Return [coverage, error rate] of the most confident predictions, for the first seed of each row."""
    curves = []
    for row in comparison.compared:
        predictions = row.checkpoints[0].predictions
        if predictions is None:
            continue
        order = np.argsort(-predictions.p_predicted, kind="stable")
        risk = 100 * np.cumsum(~predictions.right[order]) / np.arange(1, len(order) + 1)
        kept = np.unique(np.linspace(0, len(order) - 1, POINTS).astype(int))
        points = [[round(100 * (rank + 1) / len(order), 2), round(float(risk[rank]), 2)] for rank in kept.tolist()]
        curves.append({"id": row.row_id, "points": points})
    return curves
