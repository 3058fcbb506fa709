"""Building, saving and loading of models."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.inception_v3 import InceptionAux
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional

from imgcls.config import ArchitectureConfig, Norm
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.models.registry import AUX_POOL, AUX_STOCK_PX, ModelSpec
from imgcls.models.structure import Structure, pretrained_cfg

if TYPE_CHECKING:
    from collections.abc import Sequence

NETWORK_KEY: Final = "imgcls"

Network = dict[str, Any]
"""Description of a network that can be built from it: timm's name and options, or the descriptions of members."""

LEAST_PROBABILITY: Final = 1e-30

CHANNELS_LAST_FROM_PX: Final = 64
"""From this size on, channels_last trains 1.1 to 1.6 x faster (measured at 64, 75 and 128 px on two cores)."""


def build_model(spec: ModelSpec, config: ArchitectureConfig, *, num_classes: int, aux_head: bool = False) -> nn.Module:
    """Build a network with a new classifier; it maps float32 ``[B, 3, S, S]`` to logits ``[B, num_classes]``.

    Random parameters are drawn from torch's global generator. With ``aux_head``, Inception is built with its auxiliary
    head, which ``set_aux`` enables and disables.
    """
    options = spec.structure.options | {"num_classes": num_classes, "drop_rate": config.dropout}
    if spec.has_aux_head:
        options["aux_logits"] = aux_head
    file = spec.weights.file
    if file is not None:
        # The file whose hash is recorded, instead of one that timm would ask the hub for.
        cfg = pretrained_cfg(spec.weights, spec.structure.classifier)
        options["pretrained_cfg"] = replace(cfg, file=str(file))
    model = timm.create_model(spec.architecture, pretrained=file is not None, **options)
    if spec.has_aux_head and aux_head and spec.resize.size < AUX_STOCK_PX:
        model.AuxLogits = AdaptiveAux(cast("InceptionAux", model.AuxLogits))
    return model


def memory_format(structure: Structure, image_size: int) -> torch.memory_format:
    """Return the memory format of a network, by a fixed rule: a resumed run must use the same."""
    fast = structure.channels_last and image_size >= CHANNELS_LAST_FROM_PX
    return torch.channels_last if fast else torch.contiguous_format


def require_pretrained(spec: ModelSpec) -> None:
    """Raise ConfigError unless the model is pre-trained: random layers have no features to fit a classifier to."""
    if spec.weights.init == "random":
        reason = f": {spec.name} starts from random weights; use all, or pre-trained weights"
        raise ConfigError(Setting("tune_layers"), reason)


def shift_logits(model: nn.Module, heads: "Sequence[str]", offsets: Tensor) -> None:
    """Add ``offsets`` ``[C]`` to the logits of every image, by the biases of the linear heads whose mean they are."""
    assert heads, "planning refuses other models"
    with torch.no_grad():
        for name in heads:
            cast("Tensor", model.get_submodule(name).bias).add_(offsets)


class AdaptiveAux(nn.Module):
    """Inception's auxiliary head with an adaptive pool, for feature maps under 17 x 17.

    ``conv1`` needs a 5 x 5 map, which the stock pool (kernel 5, stride 3) yields only for maps of 17 x 17 or more.
    """

    def __init__(self, stock: InceptionAux) -> None:
        """Use the layers of the stock head under the same names, so that both have the same state dict."""
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
    """Set whether a model with an auxiliary head returns (logits, auxiliary logits) or logits only."""
    # Needed for evaluation too, as timm's inception_v3 returns the tuple in eval mode as well.
    if getattr(model, "AuxLogits", None) is not None:
        setattr(model, "aux_logits", enabled)  # noqa: B010 - timm's flag, unknown to nn.Module's types


def train_mode(model: nn.Module, norm: Norm) -> None:
    """Set the train mode, in which an auxiliary head is enabled and frozen norms keep their statistics."""
    model.train()
    set_aux(model, enabled=True)
    if norm == "frozen":
        for module in model.modules():
            # The norms of timm that contain an activation are subclasses.
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base of all batch norms
                module.eval()


def storable(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network as safetensors stores it, without the auxiliary head, which only training uses."""
    state: dict[str, Tensor] = {}
    stored = set[int]()
    for key, tensor in model.state_dict().items():
        if key.startswith("AuxLogits."):
            continue
        # safetensors refuses tensors in channels_last, and those that two modules share, as in CoaT.
        storage = tensor.untyped_storage().data_ptr()
        state[key] = tensor.clone() if storage in stored else tensor.contiguous()
        stored.add(storage)
    return state


def save_trained(state: dict[str, Tensor], spec: ModelSpec, *, num_classes: int, path: Path) -> None:
    """Write trained weights; the file's metadata contains what is needed to build their network again."""
    options = spec.structure.options | {"num_classes": num_classes}
    _save(state, {"timm_name": spec.timm_name, "options": options}, path)


def save_ensemble(files: "Sequence[Path]", parts: "Sequence[Part]", path: Path) -> None:
    """Write the ensemble of the networks in ``files``, each with its weight and normalisation, as one network."""
    ensemble = EnsembleModule([load_trained(file) for file in files], parts)
    _save(storable(ensemble), {"members": [_description(file) for file in files]}, path)


def _save(state: dict[str, Tensor], network: Network, path: Path) -> None:
    # One key: safetensors writes several in arbitrary order.
    save_file(state, path, metadata={NETWORK_KEY: json.dumps(network, sort_keys=True)})


def _description(path: Path) -> Network:
    with safe_open(path, framework="pt") as tensors:
        network: Network = json.loads(tensors.metadata()[NETWORK_KEY])
    return network


def load_trained(path: Path) -> nn.Module:
    """Load a network that ``save_trained`` or ``save_ensemble`` wrote, in eval mode, without an auxiliary head."""
    model = _empty(_description(path))
    model.load_state_dict(load_file(path))
    return model.eval()


def load_deployed(path: Path) -> nn.Module:
    """Load a network as it is exported, counted and timed: with the branches of its training merged.

    RepVGG, MobileOne, FastViT and others train several branches whose sum is one convolution. Networks without such
    branches are as they were trained.
    """
    return reparameterize_model(load_trained(path), inplace=True)


def _empty(network: Network) -> nn.Module:
    """Return a network with random parameters."""
    if "members" in network:
        # Weights and normalisations are read with the parameters.
        neutral = Part(weight=1.0, scale=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0))
        return EnsembleModule([_empty(member) for member in network["members"]], [neutral] * len(network["members"]))
    name = network["timm_name"].split(".")[0]
    return timm.create_model(name, pretrained=False, **network["options"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The weight of a member of an ensemble, and the scale and shift from the ensemble's normalisation to its own."""

    weight: float
    scale: tuple[float, ...]
    shift: tuple[float, ...]


class EnsembleModule(nn.Module):
    """Several networks as one, whose logits are the logarithm of the weighted mean of their probabilities."""

    def __init__(self, members: "Sequence[nn.Module]", parts: "Sequence[Part]") -> None:
        """Use ``members``, which map float32 ``[B, 3, S, S]`` to logits ``[B, C]``."""
        super().__init__()
        self.members = nn.ModuleList(members)
        # Buffers, so that they are part of the state dict; float32, as double precision is not exported everywhere.
        self.register_buffer("weights", torch.tensor([part.weight for part in parts]))
        self.register_buffer("scales", torch.tensor([part.scale for part in parts]).view(-1, 3, 1, 1))
        self.register_buffer("shifts", torch.tensor([part.shift for part in parts]).view(-1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, S, S]``, in the normalisation of the ensemble, to logits ``[B, C]``."""
        weights, scales, shifts = (cast("Tensor", getattr(self, name)) for name in ("weights", "scales", "shifts"))
        shares = [
            weights[index] * functional.softmax(member(images * scales[index] + shifts[index]), dim=1)
            for index, member in enumerate(self.members)
        ]
        # A class that no member considers possible would otherwise have a logit of minus infinity.
        return torch.stack(shares).sum(dim=0).clamp_min(LEAST_PROBABILITY).log()
