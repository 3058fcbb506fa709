"""Models built, saved and loaded."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.inception_v3 import InceptionAux
from torch import Tensor, nn
from torch.nn import functional

from imgcls.config import ArchitectureConfig
from imgcls.models.registry import (
    AUX_POOL,
    AUX_STOCK_PX,
    ModelSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK_KEY: Final = "imgcls"


def build_model(spec: ModelSpec, config: ArchitectureConfig, *, num_classes: int, aux_head: bool = False) -> nn.Module:
    """Build the network with a new head of ``num_classes``; float32 ``[B, 3, S, S]`` to logits ``[B, C]``.

    Random parts come from torch's global generator. With ``aux_head`` Inception carries its auxiliary head;
    ``set_aux`` switches it.
    """
    weights = spec.weights
    options: dict[str, Any] = {"num_classes": num_classes, "drop_rate": config.dropout}
    if spec.has_aux_head:
        options["aux_logits"] = aux_head
    if weights.cfg.fixed_input_size:
        options["img_size"] = spec.resize.size
    if weights.file is not None:
        options["pretrained_cfg"] = replace(weights.cfg, file=str(weights.file), source="")
    name = spec.timm_name.split(".")[0]
    model = timm.create_model(name, pretrained=weights.file is not None, **options)
    if weights.file is not None and num_classes == weights.cfg.num_classes:
        cast("Callable[[int], None]", model.reset_classifier)(num_classes)
    if spec.has_aux_head and aux_head and spec.resize.size < AUX_STOCK_PX:
        model.AuxLogits = AdaptiveAux(cast("InceptionAux", model.AuxLogits))
    return model


class AdaptiveAux(nn.Module):
    """Inception's auxiliary head with an adaptive pool, for maps under 17 x 17."""

    def __init__(self, stock: InceptionAux) -> None:
        """Take over the layers of the stock head, under the same names."""
        super().__init__()
        self.conv0 = stock.conv0
        self.conv1 = stock.conv1
        self.fc = stock.fc

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``[B, 768, h, w]`` to logits ``[B, C]``."""
        pooled = functional.adaptive_avg_pool2d(features, AUX_POOL)
        mapped = self.conv1(self.conv0(pooled))
        return cast("Tensor", self.fc(torch.flatten(functional.adaptive_avg_pool2d(mapped, 1), 1)))


def set_aux(model: nn.Module, *, enabled: bool) -> None:
    """Make a model with an auxiliary head return (logits, auxiliary logits), or logits only."""
    if getattr(model, "AuxLogits", None) is not None:
        setattr(model, "aux_logits", enabled)  # noqa: B010 - timm's flag, unknown to nn.Module's types


def without_aux(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave the auxiliary head out of a state dict: it is for training only."""
    return {key: tensor for key, tensor in state.items() if not key.startswith("AuxLogits.")}


def save_trained(state: dict[str, Tensor], spec: ModelSpec, *, num_classes: int, path: Path) -> None:
    """Write trained weights with what is needed to build their network again in the file's metadata."""
    options = {"num_classes": num_classes}
    if spec.weights.cfg.fixed_input_size:
        options["img_size"] = spec.resize.size
    network = json.dumps({"timm_name": spec.timm_name, "options": options}, sort_keys=True)
    save_file(state, path, metadata={NETWORK_KEY: network})  # one key: safetensors writes several in any order


def load_trained(path: Path) -> nn.Module:
    """Build the network of ``save_trained`` in eval mode, without an auxiliary head."""
    with safe_open(path, framework="pt") as tensors:
        network = json.loads(tensors.metadata()[NETWORK_KEY])
    name = network["timm_name"].split(".")[0]
    model = timm.create_model(name, pretrained=False, **network["options"])
    model.load_state_dict(load_file(path))
    return model.eval()
