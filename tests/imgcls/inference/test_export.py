"""Export to one self-contained ONNX file, its parity check, and its logits without torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.data.audit import audit_dataset
from imgcls.data.decode import Resize
from imgcls.data.loaders import Source
from imgcls.data.sources.registry import load_dataset
from imgcls.data.stores.pixels import build_cache
from imgcls.errors import ParityError
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.predictions import Predictions, save_predictions
from imgcls.evaluation.results import Parity
from imgcls.inference.card import Card, read_card
from imgcls.inference.export import export_onnx
from imgcls.inference.onnx_sessions import open_onnxruntime
from imgcls.inference.parity import check_parity
from imgcls.inference.predict import open_classifier
from imgcls.models.building import build_model, set_aux
from imgcls.models.registry import ModelSpec, resolve_spec
from imgcls.models.weights import random_weights
from tests.helpers.cards import edit_card
from tests.helpers.images import smooth_image

CLASSES = ("a cat", "-dog", "<owl>|")


def spec_of(model: str, size: int) -> ModelSpec:
    return resolve_spec(model, LoaderConfig(image_size=size), random_weights)


def noise(count: int, size: int) -> Source:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return Source(pixels=pixels, indices=np.arange(count), labels=np.arange(count) % 3)


def trained(spec: ModelSpec, source: Source, path: Path) -> Predictions:
    """Export a model and return its logits in PyTorch."""
    torch.manual_seed(1)
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    set_aux(model, enabled=False)
    logits = logits_of(model, source, normalisation=spec.normalisation, device=torch.device("cpu"))
    export_onnx(model, spec, class_names=CLASSES, path=path)
    return Predictions(image_ids=tuple(map(str, range(len(source)))), labels=source.labels, logits=logits)


def parity_of(path: Path, source: Source, predictions: Predictions) -> Parity:
    session = open_onnxruntime(path.parent, 1, provider="CPUExecutionProvider", file=path.name)
    return check_parity(session.run, read_card(path), pixels=source.pixels, rows=source.indices, trained=predictions)


def test_constants_of_fused_operators_are_exported(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = timm.create_model("gemma4_vit_167m", num_classes=3, img_size=96, depth=1, embed_dim=48, num_heads=2)
    export_onnx(network.eval(), spec_of("test_vit", 96), class_names=CLASSES, path=tmp_path / "m.onnx")
    images = np.random.default_rng(0).standard_normal((2, 3, 96, 96), dtype=np.float32)
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(None, {"images": images})
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network(torch.from_numpy(images)).numpy(), rtol=1e-3, atol=1e-4)


def test_exported_model_repeats_trained_logits(tmp_path: Path) -> None:
    """So do the three default models, in tests/bench/test_pretrained.py."""
    source = noise(5, 32)
    predictions = trained(spec_of("test_efficientnet", 32), source, tmp_path / "m.onnx")
    parity = parity_of(tmp_path / "m.onnx", source, predictions)
    assert parity.max_rel_logit_error < 1e-4
    assert parity.top1_agreement == 1
    classifier = open_classifier(tmp_path / "m.onnx")
    one = np.concatenate([classifier.logits(source.pixels[i : i + 1]) for i in range(5)])
    scale = np.abs(predictions.logits).max()
    assert np.abs(one - classifier.logits(source.pixels)).max() / scale < 1e-5


def test_card_holds_what_predicting_needs(tmp_path: Path) -> None:
    spec = spec_of("test_efficientnet", 32)
    trained(spec, noise(2, 32), tmp_path / "m.onnx")
    card = open_classifier(tmp_path / "m.onnx").card
    names = ["open", "exif_transpose", "to_rgb", "resize", "normalise", "layout"]
    assert [step["step"] for step in card.steps] == names
    assert replace(card, steps=()) == Card(
        version=3,
        model="test_efficientnet",
        weights_tag="random",
        class_names=CLASSES,
        resize=Resize(size=32, interpolation="bicubic"),
        mean=spec.normalisation.mean,
        std=spec.normalisation.std,
    )


def test_onnx_file_names_no_folder(tmp_path: Path) -> None:
    trained(spec_of("test_efficientnet", 32), noise(2, 32), tmp_path / "m.onnx")
    data = (tmp_path / "m.onnx").read_bytes()
    assert sys.prefix.encode() not in data
    assert b"site-packages" not in data


def test_wrong_mean_fails_parity(tmp_path: Path) -> None:
    source = noise(5, 32)
    predictions = trained(spec_of("test_efficientnet", 32), source, tmp_path / "m.onnx")
    edit_card(tmp_path / "m.onnx", mean=[0.5, 0.5, 0.5], steps=[])
    with pytest.raises(ParityError, match="logits differ from the trained model's by"):
        parity_of(tmp_path / "m.onnx", source, predictions)


def test_nan_logits_fail_parity(tmp_path: Path) -> None:
    source = noise(5, 32)
    predictions = trained(spec_of("test_efficientnet", 32), source, tmp_path / "m.onnx")
    predictions.logits[2, 1] = np.nan
    with pytest.raises(ParityError):
        parity_of(tmp_path / "m.onnx", source, predictions)


PREDICT = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from imgcls.evaluation.predictions import load_predictions
from imgcls.inference.predict import classify
model, root, stored = map(Path, sys.argv[1:])
predictions = load_predictions(stored)
logits = np.stack([a.logits for a in classify(model, [root / name for name in predictions.image_ids])])
error = np.abs(logits - predictions.logits).max() / np.abs(predictions.logits).max()
assert "torch" not in sys.modules
print(error)
"""


@pytest.mark.parametrize("crop", [False, True])
def test_predicting_without_torch_repeats_logits(tmp_path: Path, crop: bool) -> None:  # noqa: FBT001
    root = tmp_path / "photos"
    for number in range(6):
        path = root / ["cat", "dog"][number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth_image(number, size=300).resize((400, 300)).save(path)
    spec = resolve_spec("test_efficientnet", LoaderConfig(image_size=64, crop=crop), random_weights)
    audit = audit_dataset(load_dataset(str(root), cache=tmp_path / "c"), cache=tmp_path / "c")
    pixels = build_cache(audit, spec.resize, root=root, cache=tmp_path / "c")
    source = Source(pixels=pixels, indices=np.arange(6), labels=np.zeros(6, dtype=np.int64))
    predictions = trained(spec, source, tmp_path / "m.onnx")
    stored = Predictions(
        image_ids=tuple(image.image_id for image in audit.images),
        labels=predictions.labels,
        logits=predictions.logits,
    )
    save_predictions(stored, tmp_path / "logits.npz")
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "m.onnx"), str(root), str(tmp_path / "logits.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1e-3
    edit_card(tmp_path / "m.onnx", mean=[0.9, 0.9, 0.9], steps=[])
    wrong = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(wrong.stdout) > 1e-2
