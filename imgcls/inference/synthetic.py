"""Synthetic inputs that are the same on every machine, and the trained model's logits for them; without torch.

They replace the test images in parity checks on a machine that has the artifacts, but not the data set.
"""

import hashlib
import zipfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.errors import ParityError
from imgcls.evaluation.predictions import Predictions
from imgcls.files import write_aside

SYNTHETIC: Final = "synthetic.npz"
"""File beside the artifacts: ``logits`` float32 ``[64, C]`` and ``inputs_sha256``; the inputs are not stored."""

COUNT: Final = 64

SEED: Final = 0

SIDES: Final = 8
"""Numbers of squares per side: 1, 2, 4 to 128, at most one per pixel."""


def draw_inputs(image_size: int) -> NDArray[np.uint8]:
    """Return 64 images of coloured squares, uint8 ``[64, S, S, 3]``, from one colour to a colour per pixel."""
    # RandomState, because NumPy guarantees that its numbers never change; those of Generator may. Squares of several
    # sizes, because the logits of noise alone hardly differ between images, so that they would test less.
    draw = np.random.RandomState(SEED)
    images = np.empty((COUNT, image_size, image_size, 3), dtype=np.uint8)
    for number in range(COUNT):
        side = min(2 ** (number % SIDES), image_size)
        colours = draw.randint(0, 256, (side, side, 3), dtype=np.uint8)
        # Integers only: resampling by floating-point numbers could round differently on another machine.
        square_of = np.arange(image_size) * side // image_size
        images[number] = colours[square_of[:, None], square_of]
    return images


def digest_of(inputs: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of inputs uint8 ``[N, S, S, 3]``, in hexadecimal."""
    return hashlib.sha256(inputs.tobytes()).hexdigest()


def save_synthetic(logits: NDArray[np.float32], inputs: NDArray[np.uint8], folder: Path) -> None:
    """Write the trained model's logits ``[64, C]`` and the digest of the inputs beside the artifacts."""

    def save(aside: Path) -> None:
        with aside.open("wb") as file:  # given a path, numpy appends .npz to it
            np.savez_compressed(file, logits=logits, inputs_sha256=np.array(digest_of(inputs)))

    write_aside(folder / SYNTHETIC, save)


def load_synthetic(folder: Path, image_size: int) -> tuple[NDArray[np.uint8], Predictions]:
    """Draw the inputs again, and read the trained model's logits; the labels are its own predictions.

    Raises ParityError if the file is damaged, or if the inputs are not those of the training machine.
    """
    inputs = draw_inputs(image_size)
    try:
        # Opened here, as numpy leaves a damaged file open.
        with (folder / SYNTHETIC).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            logits, expected = stored["logits"], str(stored["inputs_sha256"])
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        message = f"{SYNTHETIC} is damaged ({error})"
        raise ParityError(message) from error
    if digest_of(inputs) != expected:
        message = f"the synthetic inputs have sha256 {digest_of(inputs)[:16]}, those of the training {expected[:16]}"
        raise ParityError(message)
    names = tuple(f"synthetic {number}" for number in range(COUNT))
    return inputs, Predictions(image_ids=names, labels=logits.argmax(axis=1), logits=logits)
