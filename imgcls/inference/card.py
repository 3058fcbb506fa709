"""Metadata of exported models, and preprocessing of their input with numpy.

This module loads no runtime, so that a measuring process loads only the one that it times.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from imgcls.data.decode import RESAMPLING, Resize
from imgcls.errors import ConfigError
from imgcls.inference.onnx_files.reading import metadata_in, read_model

CARD_KEY: Final = "imgcls"

CARD_VERSION: Final = 3
# 1: first. 2: steps and temperature. 3: uncalibrated_reason.

WORDS_KEY: Final = "imgcls.preprocessing"
"""Metadata key of the preprocessing in words, for people who open the file elsewhere."""

MOST_PX: Final = 4096

LEAST_CROP: Final = 0.1

MOST_CROP: Final = 2.0

COLOURS: Final = 3

MOST_TEMPERATURE: Final = 1000.0
"""Ten times what ``imgcls.evaluation.calibration`` fits at most."""

Step = dict[str, str | int | float | tuple[float, ...]]

OPSET: Final = 20

MADE_FROM: Final = "imgcls.made_from"
"""Metadata key of reduced-precision files: digests of the original model and of the split used for calibration."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """Metadata of an exported model, stored as JSON in the ONNX file."""

    version: int
    model: str
    weights_tag: str
    class_names: tuple[str, ...]
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temperature: float | None = None
    """Divides the logits before the softmax; fitted on val. None if val could not determine it, and in old files."""
    uncalibrated_reason: str | None = None
    """Why val could not determine the temperature."""
    steps: tuple[Step, ...] = ()
    """The preprocessing from a file to the input ``images``, in order; ``docs/library.md`` has a reader."""


def steps_of(resize: Resize, *, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Step, ...]:
    """Return the steps from an image file to the model's input, as ``imgcls.data.decode`` carries them out."""
    size: tuple[Step, ...] = ({"step": "resize", "width": resize.size, "height": resize.size},)
    if resize.crop_pct is not None:
        size = (
            {"step": "resize", "shorter_side": resize.side},
            {"step": "centre_crop", "width": resize.size, "height": resize.size},
        )
    size[0]["filter"] = resize.interpolation
    return (
        {"step": "open", "frame": 0, "jpeg_draft": 2 * resize.side},
        {"step": "exif_transpose"},
        {
            "step": "to_rgb",
            "transparency": "over white",
            "grey_16_bit": "round(value * 255 / 65535)",
            "integers_32_bit": "as they are, 0 to 255",
        },
        *size,
        {"step": "normalise", "scale": 1 / 255, "mean": mean, "std": std},
        {"step": "layout", "order": "NCHW", "dtype": "float32"},
    )


def words_of(card: Card) -> str:
    """Return the preprocessing and the use of the outputs in words."""
    side, size = card.resize.side, card.resize.size
    shape = f"Resize to {size} x {size} px"
    if card.resize.crop_pct is not None:
        shape = f"Resize the shorter side to {side} px and cut out the central {size} x {size} px"
    softmax = "" if card.temperature is None else f" divided by the temperature {card.temperature:.6g}"
    return (
        f"Open the first frame with Pillow; for JPEG files call draft('RGB', ({2 * side}, {2 * side})) first. Apply "
        "the EXIF orientation. Scale 16-bit grey by 255/65535 and round; read 32-bit integers as they are. Composite "
        f"transparency over white. Convert to RGB. {shape} with Pillow's {card.resize.interpolation} filter. Divide by "
        f"255, subtract mean {card.mean}, "
        f"divide by std {card.std}. Input 'images': float32 [B, 3, {size}, {size}]. Output 'logits': "
        f"[B, {len(card.class_names)}]; probabilities are the softmax of the logits{softmax}."
    )


def preprocess(pixels: NDArray[np.uint8], card: Card) -> NDArray[np.float32]:
    """Normalise uint8 ``[B, S, S, 3]`` to contiguous float32 ``[B, 3, S, S]``."""
    # The formula of ``imgcls.data.augment``, whose import would load torch.
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (card.mean, card.std))
    return _scaled(pixels.transpose(0, 3, 1, 2), scale=1 / (255 * std), shift=-mean / std)


def _scaled(
    planes: NDArray[np.uint8], *, scale: NDArray[np.floating], shift: NDArray[np.floating]
) -> NDArray[np.float32]:
    # Seven times as fast as one expression with the colours last: no temporary arrays, and no loops of three values.
    scaled = planes.astype(np.float32, order="C")
    scaled *= scale
    scaled += shift
    return scaled


def read_card(path: Path) -> Card:
    """Return an exported model's card from its ONNX metadata, without opening a session.

    Raises ConfigError if the file is missing, is not ONNX, or contains no card.
    """
    return card_of(metadata_of(path), path)


def card_of(metadata: Mapping[str, str], path: Path) -> Card:
    """Return the card in the metadata of a file; raises ConfigError without one, or for one that cannot be right."""
    if CARD_KEY not in metadata:
        message = f"{path}: carries no {CARD_KEY} metadata (classes, size, mean, std); export it with this project"
        raise ConfigError(message)
    try:
        card = msgspec.json.decode(metadata[CARD_KEY], type=Card)
        fault = next(_faults(card), None)
    except msgspec.MsgspecError as error:
        fault = str(error)
    except RecursionError:
        fault = "nested too deeply"
    if fault is not None:
        message = f"{path}: its {CARD_KEY} metadata are wrong ({fault}); export it with this project"
        raise ConfigError(message)
    return card


def _faults(card: Card) -> Iterator[str]:
    """Yield what is wrong with a card: it may come from a stranger, and must not be used as if it were right."""
    if not 1 <= card.version <= CARD_VERSION:
        yield f"version {card.version}; this code reads versions 1 to {CARD_VERSION}"
    names = card.class_names
    if not names or not all(names) or len(set(names)) < len(names):
        yield "class names are missing, empty or repeated"
    yield from _resize_faults(card.resize)
    if not len(card.mean) == len(card.std) == COLOURS or not all(map(math.isfinite, card.mean)):
        yield "mean and std are not three numbers each"
    if not all(0 < std < math.inf for std in card.std):
        yield "a standard deviation is not positive"
    if card.temperature is not None and not 1 / MOST_TEMPERATURE <= card.temperature <= MOST_TEMPERATURE:
        yield f"temperature {card.temperature}, not {1 / MOST_TEMPERATURE} to {MOST_TEMPERATURE}"
    expected = {step["step"]: step for step in steps_of(card.resize, mean=card.mean, std=card.std)}
    for step in card.steps:
        # Other steps may be described in other words by earlier versions.
        if step.get("step") in {"resize", "centre_crop", "normalise"} and step != expected.get(step["step"]):
            yield f"the step {step['step']} contradicts size, crop, mean or std"


def _resize_faults(resize: Resize) -> Iterator[str]:
    if not 1 <= resize.size <= MOST_PX:
        yield f"size {resize.size}, not 1 to {MOST_PX} px"
    if resize.crop_pct is not None and not LEAST_CROP <= resize.crop_pct <= MOST_CROP:
        yield f"crop_pct {resize.crop_pct}, not {LEAST_CROP} to {MOST_CROP}"
    if resize.interpolation not in RESAMPLING:
        yield f"interpolation {resize.interpolation!r}, not one of {', '.join(RESAMPLING)}"


def metadata_of(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file without opening a session; raises ConfigError if it cannot be read."""
    return metadata_in(read_model(path))
