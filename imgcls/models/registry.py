"""Registry of architectures, and resolution of their weights, input size and preprocessing."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Final

import timm
import torch

from imgcls.config import LoaderConfig
from imgcls.data.augment import Normalisation
from imgcls.data.decode import RESAMPLING, Resize
from imgcls.errors import ConfigError
from imgcls.hub import why_unreachable
from imgcls.models.weights import Weights, folder_weights, hub_weights, in_cache, random_weights, shapes_of

LOGGER = logging.getLogger(__name__)

AUX_STOCK_PX: Final = 299
"""Inception's stock auxiliary head needs a 17 x 17 map, that is, 299 px; for smaller images its pool is adaptive."""

AUX_POOL: Final = 5

BATCH_COUNTER: Final = "num_batches_tracked"
"""A buffer of batch norm that weight files may lack, because it has no effect with a fixed momentum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelEntry:
    """A registered model: its timm name with an explicit weight tag, and its input sizes in pixels."""

    timm_name: str
    native_size: int
    min_size: int = 32
    has_aux_head: bool = False


# The tags are explicit, because timm's default tags may change, and the tag is part of a result's identity.
MODELS: Final[dict[str, ModelEntry]] = {
    "resnet50": ModelEntry(timm_name="resnet50.a1_in1k", native_size=224),
    "efficientnet_b0": ModelEntry(timm_name="efficientnet_b0.ra_in1k", native_size=224),
    # Only tv_in1k has weights of the auxiliary head. At 75 px the last feature map is 1 x 1.
    "inception_v3": ModelEntry(timm_name="inception_v3.tv_in1k", native_size=299, min_size=75, has_aux_head=True),
    "efficientnet_b3": ModelEntry(timm_name="efficientnet_b3.ra2_in1k", native_size=300),
    "efficientnet_b4": ModelEntry(timm_name="efficientnet_b4.ra2_in1k", native_size=380),
}
"""Registered models; any other timm name works too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Resolved settings of a model: weights, input size, normalisation."""

    name: str
    timm_name: str
    weights: Weights
    resize: Resize
    normalisation: Normalisation
    has_aux_head: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """Differences from the stock architecture, for the record."""
        if self.has_aux_head and self.resize.size < AUX_STOCK_PX:
            return (f"auxiliary head pooled adaptively to {AUX_POOL} x {AUX_POOL} below {AUX_STOCK_PX} px",)
        return ()


WeightsFor = Callable[[str], Weights]


def weights_policy(weights: str, timm_names: Iterable[str]) -> WeightsFor:
    """Turn ``--weights`` into a function from a timm name to weights; the hub is probed once, here.

    ``timm_names`` are the models of the command: with ``auto`` and no hub, all of them are pre-trained if the weights
    of all are in the hub's cache on this machine; else all are random, with a warning.

    Raises ConfigError if it is neither a known word nor a folder.
    """
    if weights == "none":
        return random_weights
    if weights == "auto":
        reason = why_unreachable()
        return hub_weights if reason is None else _without_hub(timm_names, reason)
    word, at, revision = weights.partition("@")
    if word == "pretrained":
        if at and not revision:
            message = f"--weights {weights}: names no revision; use pretrained@REVISION, a branch, tag or commit"
            raise ConfigError(message)
        return partial(hub_weights, revision=revision or None, unreachable=why_unreachable())
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        message = f"--weights {weights}: no such folder; use auto, pretrained, pretrained@REVISION, none or a folder"
        raise ConfigError(message)
    return lambda timm_name: folder_weights(timm_name, folder)


def _without_hub(timm_names: Iterable[str], reason: str) -> WeightsFor:
    """Use the hub's cache for all models or for none: one whose weights happen to be there would have an advantage."""
    names = dict.fromkeys(timm_names)
    missing = [name for name in names if not in_cache(name)]
    if not missing:
        LOGGER.info("the model hub cannot be reached (%s): pretrained weights from its cache on this machine", reason)
        return partial(hub_weights, unreachable=reason)
    stored = [name for name in names if name not in missing]
    LOGGER.warning(
        "the model hub cannot be reached (%s), and its cache on this machine lacks %s: every model starts from RANDOM "
        "weights (init: random)%s",
        reason,
        ", ".join(missing),
        f"; --weights pretrained starts {', '.join(stored)} from the cache" if stored else "",
    )
    return random_weights


def resolve_spec(model: str, loader: LoaderConfig, weights_for: WeightsFor) -> ModelSpec:
    """Resolve the weights, preprocessing and size of a model by name.

    Raises ConfigError if the model is unknown, its weights are not available or do not fit, or the image size is too
    small.
    """
    entry = MODELS.get(model)
    if entry is None and not timm.is_model(model):
        near = get_close_matches(model, [*MODELS, *timm.list_models()], n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        message = f"unknown model {model!r}{hint}; known: {', '.join(MODELS)}, and any name that timm lists"
        raise ConfigError(message)
    timm_name = entry.timm_name if entry else model
    smallest = entry.min_size if entry else 8
    if loader.image_size < smallest:
        message = f"--image-size {loader.image_size} is too small for {model}; it needs {smallest} px or more"
        raise ConfigError(message)
    weights = weights_for(timm_name)
    cfg = weights.cfg
    spec = ModelSpec(
        name=model,
        timm_name=timm_name,
        weights=weights,
        resize=Resize(
            size=loader.image_size,
            # A folder's config.json may name an interpolation that Pillow lacks; bicubic is timm's default.
            interpolation=cfg.interpolation if cfg.interpolation in RESAMPLING else "bicubic",
            crop_pct=cfg.crop_pct if loader.crop else None,
        ),
        normalisation=Normalisation(mean=tuple(cfg.mean), std=tuple(cfg.std)),
        has_aux_head=bool(entry and entry.has_aux_head),
    )
    if weights.file is not None:
        _require_fit(spec)
    return spec


def _require_fit(spec: ModelSpec) -> None:
    """Raise ConfigError if the file lacks a tensor of the architecture; the classifier is new in any case."""
    # timm loads weights with strict=False if the number of classes differs: what is missing would stay random silently.
    assert spec.weights.file is not None
    have = shapes_of(spec.weights.file)
    # The meta device allocates no memory; only names and shapes are needed.
    with torch.device("meta"):
        model = timm.create_model(spec.timm_name.split(".")[0], pretrained=False)
    heads = _classifiers(spec)
    for key, tensor in model.state_dict().items():
        if not key.startswith(heads) and not key.endswith(BATCH_COUNTER) and have.get(key) != tuple(tensor.shape):
            found = have.get(key, "nothing")
            message = f"--weights: {spec.name} needs {key} of shape {tuple(tensor.shape)}, the file has {found}"
            raise ConfigError(message)


def _classifiers(spec: ModelSpec) -> tuple[str, ...]:
    names = spec.weights.cfg.classifier or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
