"""An ONNX file and photos to labels: onnxruntime, numpy and Pillow, no torch.

Everything it needs is in the file's metadata (``Card``), which ``imgcls.export`` writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.special import softmax

from imgcls.data.decode import Resize, UndecodableError, load_square
from imgcls.errors import ConfigError, DataError

CARD_KEY: Final = "imgcls"
CARD_VERSION: Final = 1
OPSET: Final = 20
MADE_FROM: Final = "imgcls.made_from"
"""Metadata of a reduced-precision file: digests of the model it was made from and of its calibration's split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """What an exported model says of itself, kept as JSON in the ONNX metadata."""

    version: int
    model: str
    weights_tag: str
    class_names: tuple[str, ...]
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]


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
    """What the model says of one photo: the best class, its softmax probability, and all logits."""

    photo: str
    class_name: str
    probability: float
    logits: NDArray[np.float32]


def preprocess(pixels: NDArray[np.uint8], card: Card) -> NDArray[np.float32]:
    """Normalise uint8 ``[B, S, S, 3]`` to contiguous float32 ``[B, 3, S, S]``."""
    scale = 1 / (255 * np.array(card.std, dtype=np.float32))
    shift = -np.array(card.mean, dtype=np.float32) / np.array(card.std, dtype=np.float32)
    return np.ascontiguousarray((pixels * scale + shift).transpose(0, 3, 1, 2), dtype=np.float32)


def open_classifier(path: Path, *, threads: int = 0) -> Classifier:
    """Open an exported model on the CPU; raises ConfigError for a file that is not one of ours."""
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


def card_of(path: Path) -> Card:
    """Read an exported model's card; raises ConfigError as ``open_classifier`` does."""
    return open_classifier(path, threads=1).card


def _card(session: onnxruntime.InferenceSession, path: Path) -> Card:
    metadata: dict[str, Any] = session.get_modelmeta().custom_metadata_map
    try:
        return msgspec.json.decode(metadata[CARD_KEY], type=Card)
    except (KeyError, msgspec.DecodeError) as error:
        message = f"{path}: carries no {CARD_KEY} metadata (classes, size, mean, std); export it with this project"
        raise ConfigError(message) from error


def classify(model: Path, photos: Sequence[Path]) -> list[Answer]:
    """Label photos, one answer each; raises DataError for a photo that cannot be decoded."""
    classifier = open_classifier(model)
    return [_answer(classifier, photo) for photo in photos]


def _answer(classifier: Classifier, photo: Path) -> Answer:
    try:
        pixels = load_square(photo, classifier.card.resize)
    except UndecodableError as error:
        message = f"{photo}: {error}; give a picture file"
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
