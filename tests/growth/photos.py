"""Folders of many small photographs, and hashes of many that look alike."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.auditing.duplicates import HASH_BITS
from imgcls.parallel import usable_cores

SIDE_PX: Final = 48
"""Enough for a search for near-duplicates, and so small that a million files take 4 GB."""
COARSE_PX: Final = 6
CLASSES: Final = 100
CHUNK: Final = 1000
THUMBNAIL_SHAPE: Final = (16, 16, 3)


def write_photos(folder: Path, count: int) -> None:
    """Write ``count`` JPEG files of random content into class folders, all different; on all cores."""
    for label in range(CLASSES):
        (folder / f"class-{label:02d}").mkdir(parents=True, exist_ok=True)
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    with ProcessPoolExecutor(usable_cores()) as pool:
        list(pool.map(partial(_write_chunk, folder), chunks))


def _write_chunk(folder: Path, numbers: Sequence[int]) -> None:
    coarse = np.random.default_rng(numbers[0]).integers(0, 256, (len(numbers), COARSE_PX, COARSE_PX, 3), dtype=np.uint8)
    for number, colours in zip(numbers, coarse, strict=True):
        image = Image.fromarray(colours).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        image.save(folder / f"class-{number % CLASSES:02d}" / f"{number:07d}.jpg", quality=80)


def alike(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return hashes and thumbnails of ``count`` images, of which a tenth is one flat colour, and a tenth one camera's.

    The frames of the camera are one scene with noise, which changes two bits of the hash at most. Half of the bits of
    the others are set, as in a perceptual hash, which compares with the median.
    """
    rng = np.random.default_rng(0)
    tenth = count // 10
    hashes = np.zeros(count, dtype=np.uint64)
    thumbnails = np.empty((count, *THUMBNAIL_SHAPE), dtype=np.uint8)
    thumbnails[:tenth] = 200
    first, second = np.uint64(1) << rng.integers(0, HASH_BITS, (2, tenth)).astype(np.uint64)
    scene = rng.integers(20, 236, THUMBNAIL_SHAPE)
    hashes[tenth : 2 * tenth] = np.uint64(0x5A5A5A5A5A5A5A5A) ^ first ^ second
    for start in range(2 * tenth, count, CHUNK):
        stop = min(start + CHUNK, count)
        bits = rng.permuted(np.tile(np.arange(HASH_BITS) % 2, (stop - start, 1)), axis=1).astype(np.uint8)
        hashes[start:stop] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
        thumbnails[start:stop] = rng.integers(0, 256, (stop - start, *THUMBNAIL_SHAPE), dtype=np.uint8)
    for start in range(tenth, 2 * tenth, CHUNK):
        stop = min(start + CHUNK, 2 * tenth)
        thumbnails[start:stop] = scene + rng.integers(-3, 4, (stop - start, *THUMBNAIL_SHAPE))
    order = rng.permutation(count)
    return hashes[order], thumbnails[order]
