"""What the tests share: small folders of pictures, and a cache that is theirs alone."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub library is imported

MakeFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def picture(seed: int, *, size: int = 48) -> Image.Image:
    """A smooth coloured picture, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write a folder of class folders, some pictures a class."""

    def make(counts: dict[str, int], *, name: str = "pets", start: int = 0) -> Path:
        root = tmp_path / name
        seed = start
        for class_name, count in counts.items():
            (root / class_name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture(seed).save(root / class_name / f"{number:03d}.png")
                seed += 1
        return root

    return make
