"""Prediction from an exported ONNX file, with onnxruntime, numpy and Pillow; without torch.

Classes and preprocessing are read from the file's metadata (``Card``), which ``imgcls.inference.export`` writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls.data.decode import UndecodableError, load_square
from imgcls.errors import ConfigError, DataError
from imgcls.inference.card import CARD_KEY, Card, missing_card, preprocess


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """An open ONNX model with its card."""

    session: onnxruntime.InferenceSession
    card: Card

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 ``[B, S, S, 3]`` to logits ``[B, C]``."""
        (logits,) = self.session.run(None, {"images": preprocess(pixels, self.card)})
        return np.asarray(logits, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """Prediction for one image: the most probable class, its softmax probability, and all logits."""

    photo: str
    class_name: str
    probability: float
    logits: NDArray[np.float32]


def open_classifier(path: Path, *, threads: int = 0) -> Classifier:
    """Open an exported model on the CPU; raises ConfigError if the file was not exported by this project.

    ``threads`` 0: as many as onnxruntime chooses.
    """
    if not path.is_file():
        message = f"{path}: no such file; give a model.onnx that a run has exported"
        raise ConfigError(message)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        message = f"{path}: not an ONNX model that can be read ({_first_line(error)})"
        raise ConfigError(message) from error
    return Classifier(session=session, card=_card(session, path))


def _card(session: onnxruntime.InferenceSession, path: Path) -> Card:
    # From the open session: ``read_card`` would need the onnx package and load the file again.
    metadata: dict[str, Any] = session.get_modelmeta().custom_metadata_map
    try:
        return msgspec.json.decode(metadata[CARD_KEY], type=Card)
    except (KeyError, msgspec.DecodeError) as error:
        raise missing_card(path) from error


def classify(model: Path, photos: Sequence[Path]) -> list[Answer]:
    """Predict the class of each image; raises DataError if one cannot be decoded."""
    classifier = open_classifier(model)
    return [_answer(classifier, photo) for photo in photos]


def _answer(classifier: Classifier, photo: Path) -> Answer:
    try:
        pixels = load_square(photo, classifier.card.resize)
    except UndecodableError as error:
        message = f"{photo}: {error}; give an image file"
        raise DataError(message) from error
    logits = classifier.logits(pixels[None])[0]
    best = int(logits.argmax())
    return Answer(
        photo=str(photo),
        class_name=classifier.card.class_names[best],
        probability=float(softmax(logits.astype(np.float64))[best]),
        logits=logits,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
