"""Architectures, initial weights, new heads, and the auxiliary head, which is for training only."""

import hashlib
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.inception_v3 import InceptionAux

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.errors import ConfigError
from imgcls.models.building import AdaptiveAux, build_model, load_trained, save_trained, set_aux, storable
from imgcls.models.registry import MODELS, ModelSpec, resolve_spec, weights_policy
from imgcls.models.weights import folder_weights, random_weights
from tests.helpers.weights import TINY, write_weights


def spec_of(model: str, size: int = 32) -> ModelSpec:
    return resolve_spec(model, LoaderConfig(image_size=size), random_weights)


def test_known_models_name_a_weight_tag() -> None:
    assert list(MODELS) == ["resnet50", "efficientnet_b0", "inception_v3", "efficientnet_b3", "efficientnet_b4"]
    for row in MODELS.values():
        assert timm.get_pretrained_cfg(row.timm_name, allow_unregistered=False) is not None
        assert "." in row.timm_name


def test_unknown_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'resnet5000' \(did you mean resnet50\?\); known: resnet50, "):
        spec_of("resnet5000")


def test_inception_below_75_px_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"image_size=74 .* inception_v3; it needs 75 px"):
        spec_of("inception_v3", 74)


def test_preprocessing_belongs_to_the_weights() -> None:
    inception, resnet = spec_of("inception_v3", 75), spec_of("resnet50")
    assert inception.normalisation.mean == (0.5, 0.5, 0.5)
    assert resnet.normalisation.mean == (0.485, 0.456, 0.406)
    assert resnet.resize.interpolation == "bicubic"
    assert resnet.resize.crop_pct is None
    cropped = resolve_spec("resnet50", LoaderConfig(image_size=64, crop=True), random_weights)
    assert cropped.resize.crop_pct == pytest.approx(0.95)


def test_efficientnet_has_dropout() -> None:
    model = build_model(spec_of("efficientnet_b0"), ArchitectureConfig(dropout=0.5), num_classes=7)
    assert model.drop_rate == 0.5
    model.train()
    features = torch.ones(1, 1280, 1, 1)
    assert not torch.equal(model.forward_head(features), model.forward_head(features))


@pytest.mark.parametrize("size", [75, 128, 299])
def test_inception_trains_with_auxiliary_head(size: int) -> None:
    model = build_model(spec_of("inception_v3", size), ArchitectureConfig(), num_classes=3, aux_head=True)
    model.train()
    set_aux(model, enabled=True)
    before = model.AuxLogits.fc.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logits, aux_logits = model(torch.randn(2, 3, size, size))
    assert logits.shape == aux_logits.shape == (2, 3)
    (logits.square().mean() + 0.4 * aux_logits.square().mean()).backward()
    optimizer.step()
    assert not torch.equal(before, model.AuxLogits.fc.weight)
    set_aux(model, enabled=False)
    assert model.eval()(torch.randn(2, 3, size, size)).shape == (2, 3)
    assert bool(spec_of("inception_v3", size).notes) == (size < 299)


def test_auxiliary_head_is_stock_at_299_px() -> None:
    heads = {
        size: build_model(spec_of("inception_v3", size), ArchitectureConfig(), num_classes=3, aux_head=True).AuxLogits
        for size in (298, 299)
    }
    assert isinstance(heads[298], AdaptiveAux)
    assert isinstance(heads[299], InceptionAux)


def test_saved_weights_lack_the_auxiliary_head(tmp_path: Path) -> None:
    spec = spec_of("inception_v3", 75)
    model = build_model(spec, ArchitectureConfig(), num_classes=3, aux_head=True).eval()
    set_aux(model, enabled=False)
    save_trained(storable(model), spec, num_classes=3, path=tmp_path / "m.safetensors")
    images = torch.randn(1, 3, 75, 75)
    assert torch.equal(load_trained(tmp_path / "m.safetensors")(images), model(images))


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    spec = resolve_spec("test_vit", LoaderConfig(image_size=32), random_weights)
    state = build_model(spec, ArchitectureConfig(), num_classes=3).state_dict()
    files = [tmp_path / f"{number}.safetensors" for number in range(12)]
    for file in files:
        save_trained(state, spec, num_classes=3, path=file)
    assert len({file.read_bytes() for file in files}) == 1


def test_folder_weights_and_their_preprocessing(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "w")
    spec = resolve_spec(TINY, LoaderConfig(image_size=32), weights_policy(str(folder), [TINY]))
    assert spec.normalisation.std == (0.4, 0.5, 0.6)
    assert (spec.weights.init, spec.weights.tag) == ("pretrained", "made_up")
    data = (folder / TINY / "model.safetensors").read_bytes()
    assert spec.weights.sha256 == hashlib.sha256(data).hexdigest()
    model = build_model(spec, ArchitectureConfig(), num_classes=4)
    torch.manual_seed(5)
    original = timm.create_model(TINY).state_dict()
    for key, tensor in model.state_dict().items():
        if not key.startswith("classifier"):
            assert torch.equal(tensor, original[key]), key
    assert model.state_dict()["classifier.weight"].shape == (4, 256)


def test_weights_may_lack_batch_norm_counters(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in timm.create_model(TINY).state_dict().items() if "num_batches" not in key}
    folder = write_weights(tmp_path / "w", state=state)
    spec = resolve_spec(TINY, LoaderConfig(image_size=32), partial(folder_weights, folder=folder))
    model = build_model(spec, ArchitectureConfig(), num_classes=4)
    assert torch.equal(model.state_dict()["bn1.running_var"], state["bn1.running_var"])


def test_head_is_new_for_equal_class_counts(tmp_path: Path) -> None:
    spec = resolve_spec(
        TINY, LoaderConfig(image_size=32), partial(folder_weights, folder=write_weights(tmp_path / "w"))
    )
    torch.manual_seed(5)
    original = timm.create_model(TINY).state_dict()["classifier.weight"]
    torch.manual_seed(6)
    model = build_model(spec, ArchitectureConfig(), num_classes=1000)
    assert not torch.equal(model.state_dict()["classifier.weight"], original)


def test_weights_folder_without_model_is_refused(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "w")
    with pytest.raises(ConfigError, match=f"no resnet50/config.json there; models in that folder: {TINY}"):
        folder_weights("resnet50.a1_in1k", folder)


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for 'resnet18'"):
        folder_weights(TINY, write_weights(tmp_path / "w", architecture="resnet18"))


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "w", state=timm.create_model("test_resnet").state_dict())
    with pytest.raises(ConfigError, match=r"weights: the file does not fit test_efficientnet \(.*\); use weights of"):
        resolve_spec(TINY, LoaderConfig(image_size=32), partial(folder_weights, folder=folder))


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-opened",)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_pickle_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_weights(tmp_path / "w")
    (folder / TINY / "model.safetensors").unlink()
    (folder / TINY / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ConfigError, match="safetensors"):
        folder_weights(TINY, folder)
    assert not (tmp_path / "pickle-was-opened").exists()
