"""Any predict function over a split gives Predictions, which are kept, so that a new metric needs no new run."""

import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pictures uint8 ``[B, S, S, 3]`` to logits ``[B, C]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """Ids and labels of a split's images, and float32 logits ``[N, C]`` in the same order."""

    image_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


def predict_all(predict: Predict, batches: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Run a predict function over batches, in order."""
    return np.concatenate([predict(batch) for batch in batches])


def save_predictions(predictions: Predictions, path: Path) -> None:
    """Write all logits, aside and then renamed."""
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez_compressed(
            file,
            image_ids=np.array(predictions.image_ids),
            labels=predictions.labels,
            logits=predictions.logits,
        )
    aside.replace(path)


def load_predictions(path: Path) -> Predictions:
    """Read what ``save_predictions`` wrote; raises OSError or ValueError on a damaged file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return Predictions(
                image_ids=tuple(str(image_id) for image_id in stored["image_ids"]),
                labels=stored["labels"],
                logits=stored["logits"],
            )
    except (zipfile.BadZipFile, KeyError) as error:
        message = f"{path.name} is damaged ({error})"
        raise ValueError(message) from error


def save_summary(predictions: Predictions, path: Path) -> None:
    """Write what paired tests need: ids, labels, predicted classes, and the probabilities of both classes."""
    probabilities = softmax(predictions.logits.astype(np.float64), axis=1).astype(np.float32)
    predicted = predictions.logits.argmax(axis=1)
    rows = np.arange(len(predicted))
    aside = path.with_suffix(".partial")
    with aside.open("wb") as file:
        np.savez_compressed(
            file,
            image_ids=np.array(predictions.image_ids),
            labels=predictions.labels.astype(np.int32),
            predicted=predicted.astype(np.int32),
            p_true=probabilities[rows, predictions.labels],
            p_predicted=probabilities[rows, predicted],
        )
    aside.replace(path)
