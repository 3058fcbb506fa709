"""Small generated images, thumbnails of frames, and the type of the fixture that writes folders of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

MakeFolder = Callable[..., Path]


def smooth_image(seed: int, *, size: int = 48) -> Image.Image:
    """Return a smooth colour image that differs for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def frames(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes and thumbnails of a fixed camera's frames: one scene with noise, which changes two bits at most."""
    rng = np.random.default_rng(0)
    scene, bits = rng.integers(0, 256, (16, 16, 3)), rng.integers(0, 64, (count, 2))
    hashes = np.array([0x5A5A5A5A5A5A5A5A ^ (1 << int(a)) ^ (1 << int(b)) for a, b in bits], dtype=np.uint64)
    noise = rng.integers(-3, 4, (count, 16, 16, 3))
    return hashes, np.clip(scene + noise, 0, 255).astype(np.uint8)
