"""Prediction from exported ONNX files, with onnxruntime, numpy and Pillow; without torch.

Classes and preprocessing are read from a file's metadata (``Card``), which ``imgcls.inference.export`` writes.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from imgcls.config import require
from imgcls.data.decode import NO_MEMORY, Resize, UndecodableError, load_square
from imgcls.errors import ConfigError, DataError
from imgcls.inference.card import CARD_KEY, Card, card_of, preprocess
from imgcls.inference.onnx_files.reading import check_file
from imgcls.inference.onnx_sessions import SILENT
from imgcls.parallel import stream_chunks

NO_TEMPERATURE: Final = "the file has no temperature"
BATCH: Final = 8
"""Photos in one run of a session. Larger batches were slower: every core has its own, and caches are small."""


class Prediction(NamedTuple):
    """A class and its probability."""

    class_name: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoPrediction:
    """What a model predicts for a photo: its most probable classes, or the reason why there are none (``error``).

    ``predictions`` are sorted, the most probable first, and empty after an error. ``logits`` are float32 ``[C]``.
    Probabilities are the softmax of the logits divided by the temperature in the model's file. If it has none, they are
    the plain softmax, and ``uncalibrated_reason`` says why.
    """

    photo: str
    model: str
    uncalibrated_reason: str | None
    predictions: tuple[Prediction, ...] = ()
    logits: NDArray[np.float32] | None = None
    error: str | None = None

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are calibrated by a temperature that was fitted on val."""
        return self.uncalibrated_reason is None

    @property
    def class_name(self) -> str:
        """The most probable class; raises DataError if there is none."""
        return self._best().class_name

    @property
    def probability(self) -> float:
        """The probability of the most probable class; raises DataError if there is none."""
        return self._best().probability

    def _best(self) -> Prediction:
        if self.error is not None:
            message = f"{self.photo}: {self.error}; give an image file"
            raise DataError(message)
        return self.predictions[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Classifier:
    """An open ONNX model with its card; ``name`` is its path as text."""

    name: str
    session: onnxruntime.InferenceSession
    card: Card

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 ``[B, S, S, 3]`` to logits ``[B, C]``."""
        (logits,) = self.session.run(None, {"images": preprocess(pixels, self.card)})
        return np.asarray(logits, dtype=np.float32)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Map logits ``[B, C]`` to probabilities, calibrated if the card has a temperature."""
        # Not scipy's softmax: its import takes longer than a few photos.
        scaled = logits.astype(np.float64) / (self.card.temperature or 1.0)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def open_classifier(path: Path, *, threads: int = 0) -> Classifier:
    """Open an exported model on the CPU; raises ConfigError if the file was not exported by this project.

    ``threads`` 0: as many as onnxruntime chooses.
    """
    # Before the session, which would read files that the model names and allocate what it declares; the card from the
    # same reading, as the session would give it only afterwards.
    card = card_of(check_file(path), path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = SILENT
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base but Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"{path}: not an ONNX model that can be read ({reason})"
        raise ConfigError(message) from error
    if fault := next(_interface_faults(session, card), None):
        message = f"{path}: is not a classifier of its {CARD_KEY} metadata ({fault}); export it with this project"
        raise ConfigError(message)
    return Classifier(name=str(path), session=session, card=card)


def _interface_faults(session: onnxruntime.InferenceSession, card: Card) -> Iterator[str]:
    """Yield what inputs and outputs are not as exported."""
    inputs, outputs, size = session.get_inputs(), session.get_outputs(), card.resize.size
    if [entry.name for entry in inputs] != ["images"] or len(outputs) != 1:
        yield f"inputs {', '.join(entry.name for entry in inputs)} and {len(outputs)} outputs, not images and one"
    for entry, expected in ((inputs[0], [None, 3, size, size]), (outputs[0], [None, len(card.class_names)])):
        # A size that the file leaves open, such as that of the batch, is a name or None there.
        fixed = [have if isinstance(have, int) else want for have, want in zip(entry.shape, expected, strict=False)]
        if len(entry.shape) != len(expected) or fixed[1:] != expected[1:]:
            yield f"{entry.name} has shape {entry.shape}, not {['batch', *expected[1:]]}"


def classify(
    models: Path | Sequence[Path], photos: Sequence[Path], *, top_k: int = 1
) -> Generator[PhotoPrediction, None, None]:
    """Yield the prediction of each model for each photo, in the order of photos, and for a photo in that of the models.

    A photo that cannot be used yields predictions with the reason. The models are opened before the first one; raises
    ConfigError if one was not exported by this project or has fewer than ``top_k`` classes. Photos are decoded and
    predicted in batches on all cores, a few batches ahead of the caller. Within ``quiet_libraries``
    (``imgcls.data.decode``) nothing else is written about damaged files.
    """
    # One thread per session: every core runs a batch of its own, which is faster than all cores on one batch.
    opened = [open_classifier(path, threads=1) for path in ([models] if isinstance(models, Path) else models)]
    for classifier in opened:
        count = len(classifier.card.class_names)
        hint = f"{classifier.name} has {count} classes, use 1 to {count}"
        require(name="top_k", value=top_k, low=1, high=count, hint=hint)
    return stream_chunks(partial(_predictions, opened, top_k), photos, size=BATCH)


def _predictions(models: Sequence[Classifier], top_k: int, photos: Sequence[Path]) -> list[PhotoPrediction]:
    squares = {resize: _squares(photos, resize) for resize in {model.card.resize for model in models}}
    by_model = [_predictions_of(model, photos, squares[model.card.resize], top_k=top_k) for model in models]
    return [prediction for of_photo in zip(*by_model, strict=True) for prediction in of_photo]


def _squares(photos: Sequence[Path], resize: Resize) -> list[NDArray[np.uint8] | str]:
    """Return the pixels of each photo, or the reason why it has none."""
    squares: list[NDArray[np.uint8] | str] = []
    for photo in photos:
        try:
            squares.append(load_square(photo, resize))
        except UndecodableError as error:
            squares.append(str(error))
        except MemoryError:  # while it is resized
            squares.append(NO_MEMORY)
    return squares


def _predictions_of(
    model: Classifier, photos: Sequence[Path], squares: Sequence[NDArray[np.uint8] | str], *, top_k: int
) -> list[PhotoPrediction]:
    usable = [square for square in squares if not isinstance(square, str)]
    logits: Iterator[NDArray[np.float32] | str]
    try:
        logits = iter(model.logits(np.stack(usable)) if usable else ())
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors have no common base; the other models answer
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        logits = iter([f"the model failed: {reason}"] * len(usable))
    return [
        _prediction(model, photo, square if isinstance(square, str) else next(logits), top_k=top_k)
        for photo, square in zip(photos, squares, strict=True)
    ]


def _prediction(model: Classifier, photo: Path, outcome: NDArray[np.float32] | str, *, top_k: int) -> PhotoPrediction:
    """Return the prediction from the logits ``[C]`` of a photo, or from the reason why it has none."""
    reason = None if model.card.temperature is not None else model.card.uncalibrated_reason or NO_TEMPERATURE
    if not isinstance(outcome, str) and outcome.shape != (len(model.card.class_names),):
        outcome = f"the model has outputs of shape {outcome.shape} for {len(model.card.class_names)} classes"
    if not isinstance(outcome, str) and not np.isfinite(outcome).all():
        outcome = "the model's logits are not finite"
    if isinstance(outcome, str):
        return PhotoPrediction(photo=str(photo), model=model.name, uncalibrated_reason=reason, error=outcome)
    (probabilities,) = model.probabilities(outcome[None])
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    predictions = tuple(Prediction(model.card.class_names[row], float(probabilities[row])) for row in best)
    return PhotoPrediction(
        photo=str(photo), model=model.name, uncalibrated_reason=reason, predictions=predictions, logits=outcome
    )
