"""Predictions of a split and their files, from which metrics can be computed without running the model again."""

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from imgcls.files import write_aside

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps images uint8 ``[B, S, S, 3]`` to logits ``[B, C]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Ids and labels of a split's images, and float32 logits ``[N, C]`` in the same order.

    Images with the same value in ``groups``, ``[N]``, are duplicates of each other; ``leaked``, ``[N]``, marks those
    with a duplicate in an earlier split. None if that is not known.
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    leaked: NDArray[np.bool_] | None = None


def predict_all(predict: Predict, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return the logits of all batches, in order."""
    return np.concatenate([predict(batch) for batch in batches])


def combined(logits: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Return the logits of an ensemble ``[N, C]``: the logarithm of the weighted mean of its members' probabilities."""
    parts = [
        np.log(weight) + log_softmax(member_logits.astype(np.float64), axis=1)
        for member_logits, weight in zip(logits, weights, strict=True)
    ]
    # At least -69 (a probability of 1e-30), as the exported network has it.
    return np.asarray(np.maximum(np.logaddexp.reduce(parts), np.log(1e-30)), dtype=np.float32)


def predictions_file(folder: Path, split: str) -> Path:
    """Return the path of a split's predictions in a training's artifact folder."""
    return folder / f"{split}_logits.npz"


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write ids, labels, all logits and groups."""
    _save(
        path,
        image_ids=np.array(predictions.image_ids),
        labels=predictions.labels,
        logits=predictions.logits,
        groups=_groups(predictions),
        **({} if predictions.leaked is None else {"leaked": predictions.leaked}),
    )


def load_predictions(path: Path) -> Predictions:
    """Read the file of ``save_predictions``; raises OSError or ValueError if it is damaged."""
    # allow_pickle=False, because unpickling can run code.
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return Predictions(
                image_ids=tuple(str(image_id) for image_id in stored["image_ids"]),
                labels=stored["labels"],
                logits=stored["logits"],
                groups=stored["groups"] if "groups" in stored.files else None,
                leaked=stored["leaked"] if "leaked" in stored.files else None,
            )
    except (zipfile.BadZipFile, KeyError) as error:
        message = f"{path.name} is damaged ({error})"
        raise ValueError(message) from error


def save_summary(predictions: Predictions, path: Path, *, temperature: float) -> None:
    """Write the label, prediction, group and log-probabilities of each image, which paired tests need.

    The log-probabilities are those of the true and of the predicted class, and those of the true class also from the
    logits divided by ``temperature``.
    """
    # This file is stored with the record and may be published, so it holds three columns of float32 instead of all
    # logits. log_softmax, because the logarithm of a softmax that underflows is -inf.
    predicted = predictions.logits.argmax(axis=1)
    rows = np.arange(len(predicted))
    raw, calibrated = (log_softmax(predictions.logits.astype(np.float64) / t, axis=1) for t in (1.0, temperature))
    _save(
        path,
        image_ids=np.array(predictions.image_ids),
        labels=predictions.labels.astype(np.int32),
        predicted=predicted.astype(np.int32),
        group=_groups(predictions).astype(np.int32),
        **({} if predictions.leaked is None else {"leaked": predictions.leaked}),
        log_p_true=raw[rows, predictions.labels].astype(np.float32),
        log_p_predicted=raw[rows, predicted].astype(np.float32),
        log_p_true_calibrated=calibrated[rows, predictions.labels].astype(np.float32),
    )


def _save(path: Path, **arrays: NDArray[Any]) -> None:
    def save(aside: Path) -> None:
        with aside.open("wb") as file:  # given a path, numpy appends .npz to it
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type] # its stub takes the names for its own options

    write_aside(path, save)


def _groups(predictions: Predictions) -> NDArray[np.int64]:
    """Return the group of each image; if groups are not known, every image is a group of its own."""
    return np.arange(len(predictions.labels)) if predictions.groups is None else predictions.groups
