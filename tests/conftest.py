"""Fixtures of all tests: folders of small images, a tiny exported model, and a cache folder for each test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.processes.starting import SPIN_COUNT

os.environ["HF_HUB_OFFLINE"] = "1"  # before the import of the hub library, which reads it once
# As in our own training processes: threads that wait for each other must not use up the cores of the tests beside them.
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

import torch

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.data.audit import audit_dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.inference.export import export_onnx
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import build_model, save_trained
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from tests.helpers.images import MakeFolder, smooth_image

# The networks are tiny, and two tests run at a time: more threads would take longer. A training sets its own number.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the locks of the machine in the temporary files of this run of the tests.

    Otherwise a latency measurement of a test waits for the trainings of the tests beside it, and they for it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # Ray's sockets need short paths
        patch.setenv("TMPDIR", str(tmp_path_factory.getbasetemp()))
        patch.setenv("IMGCLS_LOCKS", str(tmp_path_factory.getbasetemp()))
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.getbasetemp()))
        yield


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
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the images of the digits and their audit, which take seconds; copy the folder before changing it."""
    cache = tmp_path_factory.mktemp("digits")
    audit_dataset(load_dataset("digits", cache=cache), cache=cache)
    return cache


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
