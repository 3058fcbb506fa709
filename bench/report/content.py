"""What the charts of the page show: the results of a table as plain data for JSON, in the units that are shown.

Values of a measure are [value], or [value, low, high] where their uncertainty is known. Arrays over all test images are
base64 text of little-endian integers: a JSON list would be several times as long.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.comparison.analysis import Comparison
from bench.comparison.latencies.figures import Latency
from bench.comparison.measures import MEASURES, Estimate, Measure
from bench.comparison.results.curves import curves_of
from bench.comparison.results.values import PairResult, RowResult, TableResult
from bench.comparison.settings import colours_of
from bench.leaderboard.page import picture, why_failed
from bench.report import gallery

Json = dict[str, Any]


def content_of(results: TableResult, comparison: Comparison) -> Json:
    """Return what the charts of a table show; ``results`` must have the intervals of all pairs."""
    colours = colours_of([row.model for row in results.rows])
    return {
        "metrics": [*map(_metric, MEASURES.values()), *_latency_metrics(results)],
        "rows": [_row(row, colours) for row in results.rows],
        "pairs": _pairs(results),
        "classes": list(results.class_names),
        "predictions": _predictions(comparison),
        "curves": curves_of(comparison),
        "picture": picture(results),
    }


def _metric(measure: Measure) -> Json:
    title = {"title": measure.title, "short": measure.title}
    return {"kind": "measure", "key": measure.key, "unit": measure.unit, "better": measure.better} | title


def _latency_metrics(results: TableResult) -> list[Json]:
    """Return a metric for each runtime and measuring machine, the runtime on which rows are compared first."""
    machines = sorted(results.machines, key=lambda machine: machine.name != results.measured_on)
    metrics = [
        {
            "kind": "latency",
            "key": f"{runtime} {machine.name}",
            "title": f"Latency on {name}",
            "short": name,
            "unit": "ms",
            "better": "low",
        }
        for machine in machines
        for runtime in machine.runtimes
        for name in [runtime + (f" of {machine.name}" if len(machines) > 1 else "")]
    ]
    reference = f"{results.measuring.reference} {results.measured_on}"
    return sorted(metrics, key=lambda metric: metric["key"] != reference)


def _row(row: RowResult, colours: Mapping[str, str]) -> Json:
    return {
        "id": row.id,
        "name": row.name,
        "model": row.model,
        "family": row.family,
        "colour": colours[row.model],
        "setting": list(row.setting),
        "kind": row.kind,
        "init": row.init,
        "rank": [row.rank.best, row.rank.worst] if row.rank else None,
        "best": row.probability_best,
        "weak": row.weak,
        "seeds": list(row.seeds),
        "failed": None if row.scored else str(why_failed(row)),
        "from": list(row.derived_from),
        "values": _values(row),
        "at_least": [key for key, estimate in row.measures.items() if estimate.kind == "at least"],
        "recalls": [None if recall is None else [100 * end for end in _value(recall)] for recall in row.recalls],
        "missing": {_key(latency): latency.state for latency in row.latencies if latency.p50 is None},
    }


def _key(latency: Latency) -> str:
    return f"{latency.runtime} {latency.machine}"


def _values(row: RowResult) -> dict[str, list[float]]:
    """Return the measures and latencies of a row."""
    values = {key: _value(MEASURES[key].shown(estimate)) for key, estimate in row.measures.items()}
    for latency in row.latencies:
        if latency.p50 is not None:
            value, *ends = _value(latency.p50)
            # The interval is of the mean over rounds, which need not contain the percentile of all queries.
            values[_key(latency)] = [value, min(ends[0], value), max(ends[1], value)] if ends else [value]
    return {key: numbers for key, numbers in values.items() if all(map(math.isfinite, numbers))}


def _value(estimate: Estimate) -> list[float]:
    # The least and the greatest of a few seeds are no interval.
    ends = () if estimate.kind == "range" else (estimate.low, estimate.high)
    return [estimate.value, *(end for end in ends if end is not None)]


def _pairs(results: TableResult) -> Json:
    """Return the matrices of all pairs: first minus second in percentage points, with interval and p values."""
    ids, pairs = [row.id for row in results.compared], results.pairs
    low, high = _bounds(ids, pairs)
    content: Json = {
        "ids": ids,
        # More digits than are shown: rounding twice would differ from the leaderboard.
        "difference": _rounded(_signed(ids, pairs, [100 * pair.difference.value for pair in pairs]), 6),
        "low": _rounded(low, 6),
        "high": _rounded(high, 6),
        "p": _rounded(_symmetric(ids, pairs, [pair.p_value for pair in pairs]), 5),
        "holm": _rounded(_symmetric(ids, pairs, [pair.holm for pair in pairs]), 5),
        "loss": None,
        "loss_holm": None,
    }
    losses = [
        (pair.loss.value, pair.loss_holm) for pair in pairs if pair.loss is not None and pair.loss_holm is not None
    ]
    if losses and len(losses) == len(pairs):
        content["loss"] = _rounded(_signed(ids, pairs, [loss for loss, _ in losses]), 4)
        content["loss_holm"] = _rounded(_symmetric(ids, pairs, [holm for _, holm in losses]), 5)
    return content


Matrix = NDArray[np.float64]


def _upper(ids: Sequence[str], pairs: Sequence[PairResult], values: Sequence[float]) -> Matrix:
    indices = {row_id: index for index, row_id in enumerate(ids)}
    matrix = np.zeros((len(ids), len(ids)))
    for pair, value in zip(pairs, values, strict=True):
        matrix[indices[pair.first], indices[pair.second]] = value
    return matrix


def _signed(ids: Sequence[str], pairs: Sequence[PairResult], values: Sequence[float]) -> Matrix:
    upper = _upper(ids, pairs, values)
    return np.asarray(upper - upper.T)


def _symmetric(ids: Sequence[str], pairs: Sequence[PairResult], values: Sequence[float]) -> Matrix:
    """Return p values, which are 1 on the diagonal."""
    upper = _upper(ids, pairs, values)
    return np.asarray(upper + upper.T + np.eye(len(ids)))


def _bounds(ids: Sequence[str], pairs: Sequence[PairResult]) -> tuple[Matrix, Matrix]:
    ends = [(pair.difference.low, pair.difference.high) for pair in pairs]
    lows, highs = (
        ([100 * end for end in side if end is not None] for side in zip(*ends, strict=True)) if ends else ([], [])
    )
    low, high = _upper(ids, pairs, lows), _upper(ids, pairs, highs)
    return low - high.T, high - low.T


def _rounded(values: Matrix, digits: int) -> list[list[float]]:
    # Adding 0 turns -0.0, which would be shown with its sign, into 0.
    rounded: list[list[float]] = (np.round(values, digits) + 0.0).tolist()
    return rounded


def _predictions(comparison: Comparison) -> Json:
    """Return what the first seed of each compared row predicts for each test image, or for those that are listed.

    In the second case with the confusion matrix of all images, which the listed ones alone do not give.
    """
    rows = [(row, row.checkpoints[0].predictions) for row in comparison.compared]
    stored = [(row, predictions) for row, predictions in rows if predictions is not None]
    if not stored:
        return {"ids": [], "labels": "", "rows": []}
    first, listed = stored[0][1], gallery.listed(comparison)
    images = slice(None) if listed is None else listed
    return {
        "ids": list(first.image_ids) if listed is None else [first.image_ids[image] for image in listed.tolist()],
        "labels": _packed(first.labels[images], "<u2"),
        "rows": [
            {
                "id": row.row_id,
                "seed": row.checkpoints[0].seed,
                "predicted": _packed(predictions.predicted[images], "<u2"),
                "p": _packed(_percent(predictions.log_p_predicted[images]), "<u1"),
                "p_true": _packed(_percent(predictions.log_p_true[images]), "<u1"),
            }
            | ({} if listed is None else {"counts": row.checkpoints[0].confusion.tolist()})
            for row, predictions in stored
        ],
    }


def _percent(log_p: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.rint(100 * np.exp(np.minimum(log_p.astype(np.float64), 0.0))))


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode()
