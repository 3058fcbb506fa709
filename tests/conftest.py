"""What the tests share: small folders of pictures, and a cache that is theirs alone."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when the hub library is imported

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.inference.export import export_onnx
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import build_model, save_trained
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights

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


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's checkpoint and ONNX file for 32 px and three classes; copy it before changing it."""
    folder = tmp_path_factory.mktemp("artifacts")
    spec = resolve_spec("test_efficientnet", LoaderConfig(image_size=32), random_weights)
    torch.manual_seed(0)
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    save_trained(model.state_dict(), spec, num_classes=3, path=folder / WEIGHTS)
    export_onnx(model, spec, class_names=("a", "b", "c"), path=folder / ONNX)
    return folder
