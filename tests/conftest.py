"""Fixtures of all tests: folders of small images, a tiny exported model, and a cache folder for each test."""

import os
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # before the import of the hub library, which reads it once

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.inference.export import export_onnx
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import build_model, save_trained
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from tests.helpers.images import MakeFolder, smooth_image


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Return a function that writes a folder with a folder of images for each class."""

    def make(counts: dict[str, int], *, name: str = "pets", start: int = 0) -> Path:
        root = tmp_path / name
        seed = start
        for class_name, count in counts.items():
            (root / class_name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                smooth_image(seed).save(root / class_name / f"{number:03d}.png")
                seed += 1
        return root

    return make


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's checkpoint and ONNX file for 32 px and three classes; copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("artifacts")
    spec = resolve_spec("test_efficientnet", LoaderConfig(image_size=32), random_weights)
    torch.manual_seed(0)
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    save_trained(model.state_dict(), spec, num_classes=3, path=folder / WEIGHTS)
    export_onnx(model, spec, class_names=("a", "b", "c"), path=folder / ONNX)
    return folder
