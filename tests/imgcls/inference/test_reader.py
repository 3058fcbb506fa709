"""The reader in docs/library.md reproduces the predictions of photos of every kind, without this package."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imgcls
from imgcls.config import LoaderConfig, SplitConfig, TrainConfig
from imgcls.evaluation.predictions import load_predictions, predictions_file
from tests.helpers.images import smooth_image

ROOT = Path(__file__).parents[3]
ORIENTATION = 0x0112


def odd_photos(folder: Path, start: int) -> None:
    """Photos of 4,000 px, of every EXIF orientation, grey, 16-bit, palette with transparency, and CMYK."""
    folder.mkdir(parents=True)
    for number in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = number
        smooth_image(start + number, size=4000 if number == 6 else 120).resize(
            (4000, 3000) if number == 6 else (160, 120)
        ).save(folder / f"exif{number}.jpg", exif=exif)
    smooth_image(start + 9).convert("L").save(folder / "grey.jpg")
    rng = np.random.default_rng(start)
    coarse = Image.fromarray(rng.integers(0, 65536, (8, 8)).astype(np.int32)).resize(
        (64, 64), Image.Resampling.BILINEAR
    )
    Image.fromarray(np.asarray(coarse).astype(np.uint16)).save(folder / "16bit.png")
    smooth_image(start + 10).quantize(16).save(folder / "palette.gif", transparency=3)
    smooth_image(start + 11).convert("CMYK").save(folder / "cmyk.jpg")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> imgcls.FineTuned:
    home = tmp_path_factory.mktemp("reader")
    for number, split in enumerate(("train", "val", "test")):
        for place, name in enumerate(("cat", "dog")):
            odd_photos(home / "photos" / split / name, start=100 * number + 50 * place)
    dataset = imgcls.load_dataset(str(home / "photos"), cache=home)
    audit = imgcls.audit_dataset(dataset, cache=home)
    assert not audit.removed
    splits = imgcls.make_splits(audit, SplitConfig())
    loader, train = LoaderConfig(image_size=48, batch_size=8), TrainConfig(epochs=1)
    options = {"weights": "none", "loader": loader, "train": train, "cache": home}
    trained = imgcls.fine_tune("test_efficientnet", dataset, audit, splits, folder=home / "model", **options)
    imgcls.export(trained)
    return trained


def test_the_reader_reproduces_stored_predictions(model: imgcls.FineTuned, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[-1]
    assert "sys.argv" in code
    assert len([line for line in code.splitlines() if line]) <= 26
    (tmp_path / "reader.py").write_text(code)
    stored = load_predictions(predictions_file(model.folder, "test"))
    files = [str(model.folder.parent / "photos" / image_id) for image_id in stored.image_ids]
    command = [sys.executable, "-I", str(tmp_path / "reader.py"), str(model.folder / "model.onnx"), *files]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 24
    logits = np.array([one["logits"] for one in found])
    assert np.abs(logits - stored.logits).max() < 1e-4 * np.abs(stored.logits).max()
    names = [model.data.audit.class_names[label] for label in stored.logits.argmax(axis=1)]
    assert [one["class"] for one in found] == names
