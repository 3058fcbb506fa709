"""Small generated images, and the type of the fixture that writes folders of them."""

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
