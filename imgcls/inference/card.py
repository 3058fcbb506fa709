"""What an exported model says of itself, and how pixels become its input: numpy only, no runtime is loaded.

A measuring process reads both without loading a runtime that it does not time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from imgcls.data.decode import Resize
from imgcls.errors import ConfigError

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


def preprocess(pixels: NDArray[np.uint8], card: Card) -> NDArray[np.float32]:
    """Normalise uint8 ``[B, S, S, 3]`` to contiguous float32 ``[B, 3, S, S]``."""
    scale = 1 / (255 * np.array(card.std, dtype=np.float32))
    shift = -np.array(card.mean, dtype=np.float32) / np.array(card.std, dtype=np.float32)
    return np.ascontiguousarray((pixels * scale + shift).transpose(0, 3, 1, 2), dtype=np.float32)


def read_card(path: Path) -> Card:
    """Return an exported model's card from its ONNX metadata, without opening a session.

    Raises ConfigError if the file is missing, is not ONNX, or carries no card.
    """
    metadata = metadata_of(path)
    try:
        return msgspec.json.decode(metadata[CARD_KEY], type=Card)
    except (KeyError, msgspec.DecodeError) as error:
        raise missing_card(path) from error


def missing_card(path: Path) -> ConfigError:
    """Return the error for an ONNX file that this project has not exported."""
    message = f"{path}: carries no {CARD_KEY} metadata (classes, size, mean, std); export it with this project"
    return ConfigError(message)


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file without opening a session; raises ConfigError if it cannot be read."""
    import onnx  # noqa: PLC0415 - a third of a second, and a process that is given the card does without it
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if not path.is_file():
        message = f"{path}: no such file; give a model.onnx that a run has exported"
        raise ConfigError(message)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        message = f"{path}: not an ONNX model that can be read ({error})"
        raise ConfigError(message) from error
    return {entry.key: entry.value for entry in model.metadata_props}
