"""Parameters and MACs: published values for 1,000 classes at the published image sizes."""

import pytest
import torch

from imgcls.config import ArchitectureConfig, LoaderConfig
from imgcls.models import complexity
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights


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
