"""What a network is: the sizes that it can have, its classifier, and its linear heads; found without any values."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.errors import ConfigError, GroupedConfigError, ImageSizeError
from imgcls.inference.torch_sessions import open_pytorch
from imgcls.models import structure
from imgcls.models.building import (
    build_model,
    load_deployed,
    load_trained,
    memory_format,
    save_trained,
    shift_logits,
    storable,
)
from imgcls.models.heads import linear_heads
from imgcls.models.registry import ModelSpec, resolve_spec, resolve_specs, weights_policy
from imgcls.models.structure import Structure, find_structure
from imgcls.models.weights import folder_weights, random_weights
from tests.helpers.weights import TINY, write_pretrained, write_weights


def random_structure(model: str, size: int) -> Structure:
    return find_structure(model, random_weights(model), size, has_aux_head=False)


def pretrained(model: str, size: int, folder: Path) -> ModelSpec:
    write_pretrained(folder, model)
    return resolve_spec(model, LoaderConfig(image_size=size), weights_policy(str(folder), [model]))


@pytest.mark.parametrize(
    ("model", "classifier", "heads"),
    [
        ("test_efficientnet", ("classifier",), ("classifier",)),
        ("resnetv2_18", ("head.fc",), ("head.fc",)),  # a 1 x 1 convolution
        ("caformer_s18", ("head.fc.fc2",), ("head.fc.fc2",)),  # the last layer of two
        ("efficientvit_b0", ("head.classifier.4",), ("head.classifier.4",)),
        ("deit_tiny_distilled_patch16_224", ("head", "head_dist"), ("head", "head_dist")),
        ("crossvit_9_240", ("head.0", "head.1"), ("head.0", "head.1")),
        ("repvit_m1", ("head.head.l", "head.head_dist.l"), ("head.head.l", "head.head_dist.l")),
        ("vit_small_patch14_dinov2", ("head",), ("head",)),  # without a classifier of its own
        ("volo_d1_224", ("head", "aux_head"), ()),  # adds the largest logit over all tokens
        ("efficientvim_m1", ("heads.0", "heads.1", "heads.2", "heads.3"), ()),  # weighted by parameters
    ],
)
def test_classifier_and_linear_heads(model: str, classifier: tuple[str, ...], heads: tuple[str, ...]) -> None:
    native = {"vit_small_patch14_dinov2": 98, "crossvit_9_240": 240}.get(model, 224)
    found = random_structure(model, native)
    assert set(found.classifier) == set(classifier)
    assert set(found.heads) == set(heads)


def test_auxiliary_head_is_part_of_the_classifier() -> None:
    found = find_structure("inception_v3", random_weights("inception_v3"), 75, has_aux_head=True)
    assert set(found.classifier) == {"fc", "AuxLogits.fc"}
    assert found.heads == ("fc",)


class Ends(nn.Module):
    """Two layers, of which ``join`` makes the output."""

    def __init__(self, join: Any, *, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.join = nn.Linear(3, 2, bias=bias), nn.Linear(3, 2), join

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = images.mean(dim=(2, 3))
        output: torch.Tensor = self.join(self.first(pooled), self.second(pooled))
        return output


@pytest.mark.parametrize(
    ("join", "heads"),
    [
        (lambda a, b: (a + b) / 2, ["first", "second"]),
        (lambda a, b: torch.stack([a, b]).mean(dim=0), ["first", "second"]),
        (lambda a, _: a, ["first"]),
        (lambda a, b: a + b, []),
        (lambda a, b: a + 0.5 * b, []),
        (torch.maximum, []),
        (lambda a, _: a + torch.ones(2), []),
        (lambda a, _: a / 2, []),
        (lambda a, _: a.softmax(dim=1), []),
    ],
)
def test_heads_are_linear_layers_whose_mean_is_the_output(join: Any, heads: list[str]) -> None:
    assert list(linear_heads(Ends(join), torch.zeros(2, 3, 4, 4))) == heads


def test_logits_are_shifted_by_the_biases_of_all_heads() -> None:
    spec = resolve_spec("deit_tiny_distilled_patch16_224", LoaderConfig(image_size=32), random_weights)
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    images, offsets = torch.randn(2, 3, 32, 32), torch.tensor([1.0, 0.0, -2.0])
    before = model(images)
    shift_logits(model, spec.structure.heads, offsets)
    torch.testing.assert_close(model(images), before + offsets)


def test_layers_without_bias_are_no_heads() -> None:
    assert linear_heads(Ends(lambda a, _: a, bias=False), torch.zeros(2, 3, 4, 4)) == {}


def test_position_embeddings_are_resampled_and_the_network_is_loaded_again(tmp_path: Path) -> None:
    spec = pretrained("test_vit", 96, tmp_path / "weights")
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    assert model.pos_embed.shape[1] == 1 + (96 // 16) ** 2  # type: ignore[union-attr]
    save_trained(storable(model), spec, num_classes=3, path=tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(load_trained(tmp_path / "model.safetensors")(images), model(images))


@pytest.mark.parametrize(
    ("model", "size", "nearest"),
    [("convit_tiny", 96, 224), ("levit_128s", 96, 224), ("gmlp_ti16_224", 96, 224), ("test_vit", 100, 96)],
)
def test_size_that_the_weights_cannot_have(model: str, size: int, nearest: int, tmp_path: Path) -> None:
    with pytest.raises(
        ImageSizeError, match=rf"^image_size={size}: {model} .*; use image_size={nearest} px$"
    ) as raised:
        pretrained(model, size, tmp_path)
    assert raised.value.nearest == nearest
    assert "\n" not in str(raised.value)


def test_size_that_random_weights_can_have() -> None:
    """Position embeddings need not be resampled."""
    assert random_structure("convit_tiny", 96).options == {"img_size": 96}


def test_size_that_is_too_small_for_a_convolutional_network() -> None:
    with pytest.raises(ImageSizeError, match=r"vgg11 cannot have this size .*; use image_size=32 px"):
        random_structure("vgg11", 16)


def test_all_refused_sizes_are_listed_at_once() -> None:
    wanted = [(model, LoaderConfig(image_size=100)) for model in ("test_vit", TINY, "test_vit2")]
    with pytest.raises(GroupedConfigError) as raised:
        resolve_specs(wanted, random_weights)
    assert [str(error).split(" cannot")[0] for error in raised.value.errors] == [
        "image_size=100: test_vit",
        "image_size=100: test_vit2",
    ]


def test_network_without_any_classifier_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_args, **_options: nn.Conv2d(3, 8, 3))
    with pytest.raises(ConfigError, match="test_vit: timm builds no classifier for this model; choose another model"):
        random_structure("test_vit", 32)


def test_tensor_that_a_file_lacks_is_named(tmp_path: Path) -> None:
    """Also where timm, which loads files of another number of classes leniently, would leave it random."""
    state = timm.create_model(TINY).state_dict()
    del state["blocks.0.0.conv.weight"]
    folder = write_weights(tmp_path, state=state)
    with pytest.raises(ConfigError, match=r"does not fit test_efficientnet \(blocks.0.0.conv.weight is not in the"):
        resolve_spec(TINY, LoaderConfig(image_size=32), partial(folder_weights, folder=folder))


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "vit_tiny_patch16_dinov3_qkvb"])
def test_weights_of_other_formats_or_without_classifier_are_taken_from_safetensors(model: str, tmp_path: Path) -> None:
    """The config of the first says ``custom_load``, that of the second 0 classes."""
    spec = pretrained(model, 64, tmp_path)
    built = build_model(spec, ArchitectureConfig(), num_classes=5).state_dict()
    file = load_file(tmp_path / model / "model.safetensors")
    taken = [key for key in built if not key.startswith(("head.", "pos_embed"))]
    assert all(torch.equal(built[key], file[key]) for key in taken)
    assert built["head.weight"].shape[0] == 5


def test_inception_takes_all_but_its_classifiers_from_the_file(tmp_path: Path) -> None:
    spec = pretrained("inception_v3", 75, tmp_path)
    model = build_model(spec, ArchitectureConfig(), num_classes=1000, aux_head=True)
    file = load_file(tmp_path / "inception_v3" / "model.safetensors")
    built = model.state_dict()
    assert built.keys() == file.keys()
    differing = {key for key, tensor in built.items() if not torch.equal(tensor, file[key])}
    # 576 of 580, though the number of classes is that of the file, whose classes are not ours.
    assert differing == {"fc.weight", "fc.bias", "AuxLogits.fc.weight", "AuxLogits.fc.bias"}


def test_shared_tensors_are_stored(tmp_path: Path) -> None:
    spec = resolve_spec("coat_tiny", LoaderConfig(image_size=32), random_weights)
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    state = model.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) < len(state)
    save_trained(storable(model), spec, num_classes=3, path=tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_trained(tmp_path / "model.safetensors")(images), model(images))


@pytest.mark.parametrize("model", ["repvgg_a0", "mobileone_s0", "fastvit_t8", "repvit_m1", "repghostnet_050"])
def test_branches_are_merged_for_use(model: str, tmp_path: Path) -> None:
    spec = resolve_spec(model, LoaderConfig(image_size=64), random_weights)
    torch.manual_seed(0)
    network = build_model(spec, ArchitectureConfig(), num_classes=3)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 64))  # so that batch norms differ from the identity
    save_trained(storable(network), spec, num_classes=3, path=tmp_path / "model.safetensors")
    deployed = load_deployed(tmp_path / "model.safetensors")
    assert len(list(deployed.modules())) < len(list(network.modules()))
    images = torch.randn(4, 3, 64, 64)
    with torch.inference_mode():
        expected = network.eval()(images)
        torch.testing.assert_close(deployed(images), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    # The number between operators can be set once per process, so that it is left as it is.
    timed = open_pytorch(tmp_path, torch.get_num_interop_threads(), device="cpu").run(images.numpy())
    np.testing.assert_allclose(timed, deployed(images).detach().numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("model", "safe"), [("fastvit_t8", False), ("repvgg_a0", False), ("test_vit", True)])
def test_networks_that_crash_in_channels_last_are_trained_in_another_format(model: str, safe: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    found = random_structure(model, 96)
    assert memory_format(found, 96) is (torch.channels_last if safe else torch.contiguous_format)
    network = timm.create_model(model, num_classes=3, **found.options).to(memory_format=memory_format(found, 96))
    network.train()(torch.randn(2, 3, 96, 96)).square().mean().backward()


def test_unused_values_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is found on the meta device: no parameter of a real device is made."""
    made = []
    real = timm.create_model

    def watched(*args: Any, **options: Any) -> nn.Module:
        model = real(*args, **options)
        made.append({parameter.device.type for parameter in model.parameters()})
        return model

    monkeypatch.setattr(structure.timm, "create_model", watched)
    random_structure("test_vit", 64)
    assert made
    assert all(devices == {"meta"} for devices in made)


def test_hub_config_of_other_arguments(tmp_path: Path) -> None:
    """``model_args`` of a config belong to the network, also when it is loaded again."""
    folder = write_pretrained(tmp_path, "test_vit", global_pool="avg", model_args={"global_pool": "avg"})
    spec = resolve_spec("test_vit", LoaderConfig(image_size=64), weights_policy(str(folder), ["test_vit"]))
    assert spec.structure.options["global_pool"] == "avg"
    model = build_model(spec, ArchitectureConfig(), num_classes=3).eval()
    assert "fc_norm.weight" in dict(model.named_parameters())
    save_trained(storable(model), replace(spec), num_classes=3, path=tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(load_trained(tmp_path / "model.safetensors")(images), model(images))
