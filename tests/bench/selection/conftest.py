"""Photos that are easy to tell apart, and folders of made-up pre-trained weights."""

from pathlib import Path
from typing import Final

import pytest

from tests.helpers.images import smooth_image
from tests.helpers.weights import write_pretrained

MODELS: Final = ("test_efficientnet", "test_resnet", "test_vit")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of three tiny networks."""
    folder = tmp_path_factory.mktemp("weights")
    for name in MODELS:
        write_pretrained(folder, name)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with 60 images each: 18 of them are val."""
    root = tmp_path_factory.mktemp("photos") / "pets"
    for label in range(3):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(60):
            smooth_image(1000 * label + number, size=32).save(root / f"class{label}" / f"{number:03d}.png")
    return root
