"""Predictions that are stored beside a record."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.records.paths import Paths
from bench.records.predictions import StoredPredictions, pool, read_predictions
from bench.records.schema import RunRecord
from bench.records.store import record_path
from tests.helpers import examples

LABELS = np.array([0, 1, 2, 0, 1, 2])
RIGHT = np.array([True, False, True, True, True, False])
INFO = examples.data_of(LABELS, ("cat", "dog", "eel"))
SORTED = examples.predictions_of(RIGHT, LABELS, classes=3)


def taken(rows: list[int]) -> StoredPredictions:
    """Return the predictions of these rows."""
    ids = tuple(SORTED.image_ids[row] for row in rows)
    return replace(
        examples.predictions_of(RIGHT[rows], LABELS[rows], classes=3), image_ids=ids, group=SORTED.group[rows]
    )


def keep(results: Path, predictions: StoredPredictions) -> RunRecord:
    return examples.keep(results, "resnet50", predictions, INFO)


def same(found: StoredPredictions | None) -> bool:
    assert found is not None
    columns = ("labels", "predicted", "group", "log_p_true", "log_p_predicted")
    return found.image_ids == SORTED.image_ids and all(
        (getattr(found, name) == getattr(SORTED, name)).all() for name in columns
    )


def test_answers_are_sorted_by_image(tmp_path: Path) -> None:
    record = keep(tmp_path, taken([3, 0, 5, 1, 4, 2]))
    assert same(read_predictions(record, Paths(results=tmp_path)))


def test_folds_are_pooled_in_order_of_images() -> None:
    assert same(pool([taken([1, 4, 2]), taken([0, 3, 5])]))


def test_array_that_is_not_written_any_more_is_ignored(tmp_path: Path) -> None:
    record = keep(tmp_path, SORTED)
    file = record_path(tmp_path, record).with_suffix(".npz")
    with np.load(file) as stored:
        np.savez(file, log_p_predicted_calibrated=SORTED.log_p_predicted, **stored)
    assert same(read_predictions(record, Paths(results=tmp_path)))


def test_answers_to_other_images_are_ignored(tmp_path: Path) -> None:
    assert read_predictions(keep(tmp_path, taken([0, 1, 2, 3, 4])), Paths(results=tmp_path)) is None
