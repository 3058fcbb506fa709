"""Parameters and MACs: published values for 1,000 classes at the published image sizes, and torch's own counts."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.models import complexity
from imgcls.models.building import build_model
from imgcls.models.operators import missing_products
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from tests.helpers.macs import compare


@pytest.mark.parametrize(
    ("model", "size", "millions", "gmacs"),
    [
        ("resnet50", 224, 25.557, 4.11),
        ("efficientnet_b0", 224, 5.289, 0.40),
        ("inception_v3", 299, 23.83, 5.73),
    ],
)
def test_parameters_and_macs_are_as_published(model: str, size: int, millions: float, gmacs: float) -> None:
    spec = resolve_spec(model, LoaderConfig(image_size=size), random_weights)
    counted = complexity.count(build_model(spec, ArchitectureConfig(), num_classes=1000), size)
    assert counted.num_params / 1e6 == pytest.approx(millions, abs=0.005)
    # fvcore also counts batch norm and adaptive pools, 0.3 to 4 % of the published multiply-adds.
    assert gmacs * 0.997 <= counted.gmacs <= gmacs * 1.045


def test_linear_layer_counts_one_mac_a_weight() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10, bias=False))
    assert complexity.count(model, 8).gmacs * 1e9 == pytest.approx(3 * 8 * 8 * 10)


def test_uncounted_operators_are_named() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10), torch.nn.Softmax(dim=1))
    assert complexity.count(model, 8).uncounted_operators == {"aten::softmax": 1}


def test_auxiliary_head_is_not_counted() -> None:
    spec = resolve_spec("inception_v3", LoaderConfig(image_size=75), random_weights)
    model = build_model(spec, ArchitectureConfig(), num_classes=10, aux_head=True)
    with pytest.raises(AssertionError, match="auxiliary"):
        complexity.count(model, 75)


@pytest.mark.parametrize(
    ("model", "size", "gmacs"),
    [("vit_tiny_patch16_224", 224, 1.26), ("vit_small_patch14_dinov2", 518, 46.8)],
)
def test_macs_of_attention_are_as_published(model: str, size: int, gmacs: float) -> None:
    assert complexity.count(timm.create_model(model), size).gmacs == pytest.approx(gmacs, rel=0.02)


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("convmixer_1024_20_ks9_p14", 56),
        ("gmlp_ti16_224", 224),
        ("halonet_h1", 256),
        ("levit_128s", 224),
        ("mobilevit_xxs", 128),
        ("pvt_v2_b0", 64),
        ("sequencer2d_s", 64),
        ("swinv2_cr_tiny_ns_224", 224),
        ("test_coatnet", 160),
        ("test_convnext", 160),
        ("test_resnet", 160),
        ("test_vit", 160),
        ("vit_tiny_patch16_dinov3_qkvb", 128),
        ("xcit_nano_12_p16_224", 64),
    ],
)
def test_counts_agree_with_those_of_torch(model: str, size: int) -> None:
    compared = compare(model, size)
    assert compared.same_products
    # Above, by norms and pools, which torch does not count.
    assert 1 <= compared.total / compared.torch_total < 1.1


class Calls(nn.Module):
    """A network that calls a function with the image as rows ``[1, 12, 16]``, and has a parameter."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Any:
        return self.function(images.reshape(1, 12, 16))


MODULES = {
    "lstm": nn.LSTM(16, 5, num_layers=2, bidirectional=True, batch_first=True),
    "gru": nn.GRU(16, 5, batch_first=True),
    "attention": nn.MultiheadAttention(16, 4, batch_first=True),
    "same": nn.Conv1d(12, 6, 3, padding="same"),
}
for module in MODULES.values():
    module.requires_grad_(requires_grad=False)  # a traced graph must not hold parameters that are no submodule's
FACTOR, ADDED = torch.ones(1, 16, 3), torch.ones(1, 12, 3)


@pytest.mark.parametrize(
    ("function", "macs"),
    [
        (lambda rows: functional.scaled_dot_product_attention(rows, rows, rows), 2 * 12 * 12 * 16),
        (lambda rows: torch.baddbmm(ADDED, rows, FACTOR), 12 * 16 * 3),
        (lambda rows: torch.einsum("bnd,bde->bne", rows, FACTOR), 12 * 16 * 3),
        (MODULES["lstm"], 12 * 2 * 4 * (16 * 5 + 5 * 5 + 10 * 5 + 5 * 5)),
        (MODULES["gru"], 12 * 3 * (16 * 5 + 5 * 5)),
        (lambda rows: MODULES["attention"](rows, rows, rows), 12 * 16 * 16 * 4 + 2 * 12 * 12 * 16),
        (MODULES["same"], 16 * 12 * 6 * 3),
    ],
    ids=["fused", "added", "einsum", "lstm", "gru", "multihead", "same"],
)
def test_every_matrix_product_is_counted(function: Any, macs: int) -> None:
    counted = complexity.count(Calls(function), 8)
    assert counted.gmacs * 1e9 == pytest.approx(macs)
    assert missing_products(counted.uncounted_operators) == []


def test_products_that_cannot_be_counted_are_missing() -> None:
    counted = complexity.count(Calls(lambda rows: torch.cdist(rows, rows).softmax(dim=1)), 8)
    assert missing_products(counted.uncounted_operators) == ["aten::cdist"]


def test_attention_that_timm_fuses_is_counted_without_fusing() -> None:
    """Both forms have different products where the difference of two attentions is applied to the values."""
    counted = complexity.count(timm.create_model("test_vit"), 160).by_operator
    assert "matmul" in counted
    assert "scaled_dot_product_attention" not in counted


@pytest.mark.parametrize("size", [160, 64])
def test_network_is_left_as_it_was(size: int) -> None:
    """Also if it cannot be counted, as at a size that it does not take."""
    model = timm.create_model("test_vit").train()
    model.blocks[0].eval()
    model.blocks[1].attn.fused_attn = False
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    fused = [getattr(module, "fused_attn", None) for module in model.modules()]
    assert True in fused
    try:
        complexity.count(model, size)
    except AssertionError:
        assert size == 64
    assert [module.training for module in model.modules()] == modes
    assert [getattr(module, "fused_attn", None) for module in model.modules()] == fused
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_named_network_is_built_for_its_size_and_classes() -> None:
    built = complexity.count(timm.create_model("test_vit", num_classes=7, img_size=96), 96)
    assert complexity.count_named("test_vit.r160_in1k", 96, 7) == built
    assert complexity.count_named("hf-hub:owner/name", 96, 7) is None
    assert complexity.count_named("levit_128s", 97, 7) is None
