"""What the charts of the page show: a table's rows, pairs, confusions, images and curves as plain data for JSON.

Fractions are per cent here; values of a metric are [value], or [value, low, high] where their uncertainty is known.
Arrays over all test images are base64 text of little-endian integers: a JSON list would be several times as long.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.comparison.analysis import Comparison
from bench.comparison.scores import worst_class
from bench.comparison.sessions import interval_over_rounds
from bench.comparison.settings import colours_of, family_of, kind_of
from bench.comparison.speeds import reference_runtime, runtimes_of, shown
from bench.comparison.tables import Row, members_of
from bench.leaderboard.cells import median_cell
from bench.leaderboard.page import why_failed
from bench.report.curves import curves_of
from bench.stats.intervals import Score, percentile

HIGH, LOW = "high", "low"

Json = dict[str, Any]

METRICS: Final[dict[str, tuple[str, str, str]]] = {
    "top1": ("Top-1 accuracy", "%", HIGH),
    "macro_f1": ("Macro-F1", "%", HIGH),
    "worst": ("Recall of the worst class", "%", HIGH),
    "log_loss": ("Log loss", "nats", LOW),
    "size": ("ONNX file", "MB", LOW),
    "gmacs": ("Multiply-accumulates per image", "GMACs", LOW),
    "params": ("Parameters", "M", LOW),
    "training": ("Training", "s", LOW),
}
"""Metrics of rows: title, unit, and whether high or low values are better. Latencies are added for each runtime."""


def content_of(comparison: Comparison) -> Json:
    """Return what the charts of a table show."""
    latencies = _latency_metrics(comparison)
    colours = colours_of([row.first.config.model for row in comparison.ordered])
    return {
        "metrics": [_metric(key, *words) for key, words in METRICS.items()]
        + [_metric(*latency) for latency in latencies],
        "rows": [_row(row, comparison, colours) for row in comparison.ordered],
        "baseline": _interval(comparison.majority),
        "pairs": _pairs(comparison),
        "classes": list(comparison.table.first.dataset.class_names),
        "predictions": _predictions(comparison),
        "curves": curves_of(comparison),
    }


def _metric(key: str, title: str, unit: str, better: str) -> Json:
    return {"key": key, "title": title, "unit": unit, "better": better}


def _interval(score: Score) -> list[float]:
    return [100 * score.value, 100 * score.interval.low, 100 * score.interval.high]


def _row(row: Row, comparison: Comparison, colours: Mapping[str, str]) -> Json:
    config, rank = row.first.config, comparison.rank_of(row)
    return {
        "id": row.row_id,
        "name": row.name,
        "model": config.model,
        "family": family_of(config.model),
        "colour": colours[config.model],
        "setting": list(row.setting),
        "kind": kind_of(row.first),
        "init": row.init,
        "rank": [rank.best, rank.worst] if rank else None,
        "best": next((s for r, s in zip(comparison.compared, comparison.best, strict=True) if r is row), None),
        # Its errors say nothing about the images: it has learned nothing.
        "weak": any(row is other for other in comparison.no_better_than_majority),
        "seeds": [checkpoint.seed for checkpoint in row.checkpoints],
        "failed": None if row.checkpoints else why_failed(row, str),
        "from": _origin(row, comparison),
        "values": _values(row, comparison) if row.checkpoints else {},
        "missing": _missing(row, comparison) if row.checkpoints else {},
    }


def _origin(row: Row, comparison: Comparison) -> list[str]:
    """Return the ids of the rows that a row derives from: the default setting of a tuned one, an ensemble's members."""
    if row.first.ensemble is not None:
        return [member.row_id for member in members_of(row, comparison.table.rows)]
    if kind_of(row.first) == "default":
        return []
    same = [other for other in comparison.table.rows if other.first.config.model == row.first.config.model]
    plain = [other for other in same if kind_of(other.first) == "default" and other.init == row.init]
    return [other.row_id for other in plain[:1]]


def _values(row: Row, comparison: Comparison) -> dict[str, list[float]]:
    """Return the metrics of a row: [value], or [value, low, high] if its uncertainty is known."""
    outcome, worst = row.outcome, worst_class(row)
    times = [sum(fold.training.train_time_s for fold in checkpoint.outcomes) for checkpoint in row.checkpoints]
    values = {
        "top1": _interval(comparison.accuracy(row)),
        "macro_f1": _interval(comparison.macro_f1(row)),
        "log_loss": [float(np.mean([checkpoint.mean("test", "log_loss") for checkpoint in row.checkpoints]))],
        "size": [outcome.artifact.size_bytes / 1e6],
        "gmacs": [outcome.model.gmacs],
        "params": [outcome.model.num_params / 1e6],
        "training": [float(np.mean(times)), min(times), max(times)] if len(times) > 1 else times,
    }
    if worst is not None:
        values["worst"] = _interval(worst[1])
    for machine in comparison.table.machines:
        there = replace(row, measured_on=machine)
        for runtime in runtimes_of([there]):
            if (timed := shown(there, runtime)) is not None:
                sure, value = interval_over_rounds(timed[1], 50), percentile(timed[1].samples_ms, 50)
                ends = [min(sure.low, value), max(sure.high, value)] if sure else []
                values[f"{runtime} {machine}"] = [value, *ends]
    return {key: value for key, value in values.items() if all(map(math.isfinite, value))}


def _missing(row: Row, comparison: Comparison) -> dict[str, str]:
    """Return why a row has no latency, for each runtime and machine on which it has none."""
    table = comparison.table
    there = {machine: replace(row, measured_on=machine) for machine in table.machines}
    return {
        f"{runtime} {machine}": median_cell(machine_row, runtime, table.sessions)
        for machine, machine_row in there.items()
        for runtime in runtimes_of(table.rows)
        if shown(machine_row, runtime) is None
    }


def _latency_metrics(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return a metric for each runtime and measuring machine, the runtime on which rows are compared first."""
    table = comparison.table
    machines = sorted(table.machines, key=lambda machine: machine != table.measured_on)
    metrics = [
        (f"{runtime} {machine}", f"Latency on {runtime}" + (f" of {machine}" if len(machines) > 1 else ""), "ms", LOW)
        for machine in machines
        for runtime in runtimes_of([replace(row, measured_on=machine) for row in table.rows])
    ]
    reference = f"{reference_runtime(table.rows)} {table.measured_on}"
    return sorted(metrics, key=lambda metric: metric[0] != reference)


def _pairs(comparison: Comparison) -> Json:
    """Return the matrices of all pairs: first minus second in percentage points, with interval and p values."""
    rows, number = comparison.compared, len(comparison.compared)
    low, high = np.zeros((number, number)), np.zeros((number, number))
    for i, j in combinations(range(number), 2):
        interval = comparison.pair(rows[j], rows[i]).interval
        low[i, j], high[i, j], low[j, i], high[j, i] = interval.low, interval.high, -interval.high, -interval.low
    losses = comparison.losses
    return {
        "ids": [row.row_id for row in rows],
        # More digits than are shown: rounding twice would differ from the leaderboard.
        "difference": _rounded(-100 * comparison.pairwise.differences, 6),
        "low": _rounded(100 * low, 6),
        "high": _rounded(100 * high, 6),
        "p": _rounded(comparison.pairwise.p_values, 5),
        "holm": _rounded(comparison.pairwise.holm, 5),
        "loss": None if losses is None else _rounded(-losses.differences, 4),
        "loss_holm": None if losses is None else _rounded(losses.holm, 5),
    }


def _rounded(values: NDArray[np.float64], digits: int) -> list[list[float]]:
    # Adding 0 turns -0.0, which would be shown with its sign, into 0.
    rounded: list[list[float]] = (np.round(values, digits) + 0.0).tolist()
    return rounded


def _predictions(comparison: Comparison) -> Json:
    """Return what the first seed of each compared row predicts for each test image."""
    rows = [(row, row.checkpoints[0].predictions) for row in comparison.compared]
    answered = [(row, predictions) for row, predictions in rows if predictions is not None]
    if not answered:
        return {"ids": [], "labels": "", "rows": []}
    first = answered[0][1]
    return {
        "ids": list(first.image_ids),
        "labels": _packed(first.labels, "<u2"),
        "rows": [
            {
                "id": row.row_id,
                "seed": row.checkpoints[0].seed,
                "predicted": _packed(predictions.predicted, "<u2"),
                "p": _packed(_percent(predictions.log_p_predicted), "<u1"),
                "p_true": _packed(_percent(predictions.log_p_true), "<u1"),
            }
            for row, predictions in answered
        ],
    }


def _percent(log_p: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.rint(100 * np.exp(np.minimum(log_p.astype(np.float64), 0.0))))


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
