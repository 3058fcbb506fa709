"""What a network of timm is: the options of its image size, its classifier, and its linear heads.

All of it is found on the meta device, where a network has shapes and no values: nothing is computed, and a model of a
billion parameters takes as little memory as a small one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import timm
import torch
from torch import Tensor, nn

from imgcls.errors import ConfigError, ImageSizeError
from imgcls.messages import Setting
from imgcls.models.heads import linear_heads
from imgcls.models.weight_files import shapes_of
from imgcls.models.weights import Weights

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

PROBED_CLASSES: Final = (7, 8)
"""Two numbers of classes: what differs in shape between their networks is the classifier."""

STATISTICS: Final = ("running_mean", "running_var")
"""Buffers that are trained; all others, such as indices of relative positions, are computed with the network."""

WITHOUT_SOURCE: Final[dict[str, Any]] = {
    "state_dict": None,
    "file": None,
    "url": None,
    "hf_hub_id": None,
    "source": "",
    "custom_load": False,
}
"""Fields of timm's config from which it loads weights, in formats other than safetensors too; a stranger wrote them."""

GRIDS_PX: Final = (8, 14, 16, 32)
"""Patches and strides of timm's networks: the sizes that are tried in place of a refused one are multiples of them."""

SAFE_CHANNELS: Final = 8
"""Fewest input channels of a 1 x 1 convolution with a stride that was seen to train in channels_last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """How timm builds a network for an image size, and how the network ends.

    ``options`` are arguments of ``timm.create_model``. ``classifier`` names the layers whose shapes depend on the
    number of classes. ``heads`` names the linear layers, or 1 x 1 convolutions, whose mean the logits are; it is empty
    if the logits are computed otherwise.
    """

    options: dict[str, Any]
    classifier: tuple[str, ...]
    heads: tuple[str, ...]
    channels_last: bool = True
    """Whether the network can be trained in the memory format channels_last."""


def find_structure(architecture: str, weights: Weights, image_size: int, *, has_aux_head: bool) -> Structure:
    """Return the structure of a network for square images of ``image_size`` pixels; nothing is read but shapes.

    Raises ConfigError if there is no such network: timm has no classifier for it, the weights do not fit it, or they do
    not fit this image size; then the message names the nearest size that they do fit.
    """
    # Some initialisations draw random numbers on the meta device too; those of the caller do not depend on it.
    with torch.random.fork_rng(devices=[]):
        return _find(architecture, weights, image_size, has_aux_head=has_aux_head)


def _find(architecture: str, weights: Weights, image_size: int, *, has_aux_head: bool) -> Structure:
    options = weights.options | ({"aux_logits": True} if has_aux_head else {})
    classifier = _classifier(architecture, options)
    probe = _Probe(architecture, weights, classifier)
    for options in probe.candidates(image_size):
        network = probe.build(options, image_size)
        if isinstance(network, nn.Module):
            with torch.device("meta"):
                images = torch.zeros(2, 3, image_size, image_size)
            return Structure(
                options=options,
                classifier=classifier,
                heads=tuple(linear_heads(network, images)),
                channels_last=not any(map(_crashes, network.modules())),
            )
    reason, nearest = probe.reason, _nearest(probe, image_size)
    if nearest is not None:
        raise ImageSizeError(architecture, image_size, reason, nearest)
    if weights.file is None:
        message = f"{architecture}: not a classifier of square images ({reason}); choose another model"
        raise ConfigError(message)
    reason = f": the file does not fit {architecture} ({probe.reason}); use weights of that architecture"
    raise ConfigError(Setting("weights"), reason)


def _crashes(layer: nn.Module) -> bool:
    """Return whether the gradient of a convolution's weights ends the process in channels_last, on CPUs.

    Seen with torch 2.14 (oneDNN, AVX2) for 1 x 1 convolutions with a stride and 1 to 5 input channels, not with 8, as
    in the first layers of FastViT, MobileOne and RepVGG.
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < SAFE_CHANNELS
    )


def _classifier(architecture: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of all layers whose shapes depend on the number of classes; raises ConfigError without any."""
    # Not those of timm's config, which does not name auxiliary heads, and is written by others in a folder.
    with torch.device("meta"):
        first, second = (
            timm.create_model(architecture, pretrained=False, num_classes=number, **options).state_dict()
            for number in PROBED_CLASSES
        )
    differing = [key for key, tensor in first.items() if tensor.shape != second[key].shape]
    if not differing:
        message = f"{architecture}: timm builds no classifier for this model; choose another model"
        raise ConfigError(message)
    return tuple(dict.fromkeys(key.rpartition(".")[0] for key in differing))


def pretrained_cfg(weights: Weights, classifier: tuple[str, ...]) -> "PretrainedCfg":
    """Return timm's config with which a file is loaded without its classifier, whatever number of classes that has."""
    # With a number of classes that no network has, timm drops the layers that ``classifier`` names, a tuple, whatever
    # the type of its field says.
    names: Any = classifier
    return replace(weights.cfg, classifier=names, num_classes=-1, **WITHOUT_SOURCE)


class _Probe:
    """Networks of an architecture on the meta device, with the shapes of the weights that are to be loaded."""

    def __init__(self, architecture: str, weights: Weights, classifier: tuple[str, ...]) -> None:
        self.architecture = architecture
        self.weights = weights
        self.classifier = classifier
        self.reason = ""
        """Why the last network could not be built."""
        self._shapes = None if weights.file is None else shapes_of(weights.file)

    def candidates(self, image_size: int) -> tuple[dict[str, Any], ...]:
        """Return the options with which the architecture may have an image size, the preferred ones first."""
        flexible = {name: value for name, value in self.weights.options.items() if name != "img_size"}
        fixed = flexible | {"img_size": image_size}
        # timm's mark for position embeddings, windows or tables that depend on the size. Some networks lack it.
        marked = self.weights.cfg.fixed_input_size
        return (fixed, flexible) if marked else (flexible, fixed)

    def build(self, options: dict[str, Any], image_size: int) -> nn.Module | None:
        """Return the network in eval mode if it maps images of this size to logits and takes the weights, else None."""
        number = PROBED_CLASSES[0]
        try:
            with torch.device("meta"):
                network: nn.Module = timm.create_model(
                    self.architecture, pretrained=False, num_classes=number, **options
                ).eval()
                logits = network(torch.zeros(2, 3, image_size, image_size))
                missing = self._missing(network, options)
        except Exception as error:  # noqa: BLE001 - networks refuse a size or a file by exceptions of any class
            # That timm's function has no argument of this name says nothing about the network.
            if not isinstance(error, TypeError):
                lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
                # The lines of torch's loader after the first say what does not fit.
                self.reason = lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else lines[0]
            return None
        if missing:
            self.reason = f"{missing[0]} is not in the file"
            return None
        if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, number):
            self.reason = "its output is not one logit for each class"
            return None
        return network

    def _missing(self, fresh: nn.Module, options: dict[str, Any]) -> list[str]:
        """Return the names of trained tensors that timm's own loader does not take from the file.

        Raises what the loader raises if a tensor has another shape, after it resampled what it can resample.
        """
        if self._shapes is None:
            return []
        state = {key: torch.empty(shape, device="meta") for key, shape in self._shapes.items()}
        cfg = replace(pretrained_cfg(self.weights, self.classifier), state_dict=state)
        loaded = timm.create_model(
            self.architecture, pretrained=True, pretrained_cfg=cfg, num_classes=PROBED_CLASSES[0], **options
        )
        trained = {key for key, _ in fresh.named_parameters(remove_duplicate=False)}
        before = {key: _writes(tensor) for key, tensor in fresh.state_dict().items()}
        # timm drops the classifier and loads the rest with strict=False: what is missing would stay random silently.
        return [
            key
            for key, tensor in loaded.state_dict().items()
            if (key in trained or key.endswith(STATISTICS))
            and key.rpartition(".")[0] not in self.classifier
            and _writes(tensor) == before[key]
        ]


def _writes(tensor: Tensor) -> int:
    """Return how often a tensor was written in place; one that the loader did not write has the count of a new one."""
    return tensor._version  # noqa: SLF001 - has no public name


def _nearest(probe: _Probe, image_size: int) -> int | None:
    """Return the size in pixels nearest to ``image_size`` that a network can have; None if it has no native one."""
    native = probe.weights.cfg.input_size[-1]
    multiples = {number * grid for grid in GRIDS_PX for number in (image_size // grid, image_size // grid + 1)}
    nearer = [px for px in multiples - {0, image_size} if abs(px - image_size) < abs(native - image_size)]
    for px in (*sorted(nearer, key=lambda px: abs(px - image_size)), native):
        if any(probe.build(options, px) is not None for options in probe.candidates(px)):
            return px
    return None


@contextmanager
def unfused_attention(network: nn.Module) -> Iterator[None]:
    """Compute attention as matrix products and a softmax within the context, instead of in one operator."""
    # timm decides when it builds a module; its own switch (``set_fused_attn``) would act on later ones only.
    fused = [module for module in network.modules() if getattr(module, "fused_attn", False) is True]
    for module in fused:
        setattr(module, "fused_attn", False)  # noqa: B010 - timm's flag, unknown to nn.Module's types
    try:
        yield
    finally:
        for module in fused:
            setattr(module, "fused_attn", True)  # noqa: B010 - as above
