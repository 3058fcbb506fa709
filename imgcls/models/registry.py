"""Registry of architectures, and resolution of their weights, input size and preprocessing."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from timm.models import split_model_name_tag

from imgcls.config import LoaderConfig
from imgcls.data.augment import Normalisation
from imgcls.data.decode import RESAMPLING, Resize
from imgcls.errors import ConfigError, GroupedConfigError
from imgcls.hub import why_unreachable
from imgcls.messages import Message, Setting
from imgcls.models.model_names import LOCAL, current_name, names_weights
from imgcls.models.structure import Structure, find_structure
from imgcls.models.weights import Weights, folder_weights, hub_weights, in_cache, named_weights, random_weights

LOGGER = logging.getLogger(__name__)

AUX_STOCK_PX: Final = 299
"""Inception's stock auxiliary head needs a 17 x 17 map, that is, 299 px; for smaller images its pool is adaptive."""

AUX_POOL: Final = 5


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
    structure: Structure

    @property
    def architecture(self) -> str:
        """The timm name without the tag of its weights."""
        return self.timm_name.split(".")[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Differences from the stock architecture, for the record."""
        if self.has_aux_head and self.resize.size < AUX_STOCK_PX:
            return (f"auxiliary head pooled adaptively to {AUX_POOL} x {AUX_POOL} below {AUX_STOCK_PX} px",)
        return ()


WeightsFor = Callable[[str], Weights]

Specs = dict[tuple[str, LoaderConfig], ModelSpec]
"""Specifications by the name of the model and its input."""


def weights_policy(weights: str, timm_names: Iterable[str]) -> WeightsFor:
    """Turn the setting ``weights`` into a function from a timm name to weights; the hub is probed once.

    ``timm_names`` are the models of the command: with ``auto`` and no hub, all of them are pre-trained if the weights
    of all are in the hub's cache on this machine; else all are random, with a warning. Names of weights (``hf-hub:``,
    ``local-dir:``) have their own, unless ``weights`` is ``none``.

    Raises ConfigError if it is neither a known word nor a folder.
    """
    if weights == "none":
        return random_weights
    probed = cache(why_unreachable)
    policy = _policy(weights, [name for name in timm_names if not names_weights(name)], probed)
    return lambda name: named_weights(name, unreachable=probed) if names_weights(name) else policy(name)


def _policy(weights: str, timm_names: Sequence[str], probed: Callable[[], str | None]) -> WeightsFor:
    if weights == "auto":
        if not timm_names:
            return hub_weights
        reason = probed()
        return hub_weights if reason is None else _without_hub(timm_names, reason)
    word, at, revision = weights.partition("@")
    if word == "pretrained":
        if at and not revision:
            reason = ": names no revision; use pretrained@REVISION, a branch, tag or commit"
            raise ConfigError(Setting("weights", weights), reason)
        return partial(hub_weights, revision=revision or None, unreachable=probed())
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        reason = ": no such folder; use auto, pretrained, pretrained@REVISION, none or a folder"
        raise ConfigError(Setting("weights", weights), reason)
    return partial(folder_weights, folder=folder)


def _without_hub(timm_names: Sequence[str], reason: str) -> WeightsFor:
    """Use the hub's cache for all models or for none: one whose weights happen to be there would have an advantage."""
    names = dict.fromkeys(timm_names)
    missing = [name for name in names if not in_cache(name)]
    if not missing:
        LOGGER.info("the model hub cannot be reached (%s): pretrained weights from its cache on this machine", reason)
        return partial(hub_weights, unreachable=reason)
    stored = [name for name in names if name not in missing]
    text = (
        f"the model hub cannot be reached ({reason}), and its cache on this machine lacks {', '.join(missing)}: every "
        "model starts from RANDOM weights (init: random)"
    )
    hint = ("; ", Setting("weights", "pretrained"), f" starts {', '.join(stored)} from the cache") if stored else ()
    LOGGER.warning(Message((text, *hint)))
    return random_weights


def resolve_specs(wanted: Iterable[tuple[str, LoaderConfig]], weights_for: WeightsFor) -> Specs:
    """Resolve each model and size once; raises GroupedConfigError with a line for each that cannot be used."""
    specs: Specs = {}
    errors: list[ConfigError] = []
    for model, loader in dict.fromkeys(wanted):
        try:
            specs[model, loader] = resolve_spec(model, loader, weights_for)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise errors[0] if len(errors) == 1 else GroupedConfigError(errors)
    return specs


def timm_name_of(model: str) -> str:
    """Return the timm name of a registered or of any other model; raises ConfigError if there is none."""
    entry = MODELS.get(model)
    return entry.timm_name if entry else current_name(model, tuple(MODELS))


def at_size(spec: ModelSpec, image_size: int) -> ModelSpec:
    """Return the specification of the same weights at another image size; raises ConfigError if they cannot have it."""
    structure = find_structure(spec.architecture, spec.weights, image_size, has_aux_head=spec.has_aux_head)
    return replace(spec, resize=replace(spec.resize, size=image_size), structure=structure)


def resolve_spec(model: str, loader: LoaderConfig, weights_for: WeightsFor) -> ModelSpec:
    """Resolve the weights, preprocessing and size of a model by name.

    Raises ConfigError if the model is unknown, its weights are not available or do not fit, or the image size is too
    small.
    """
    entry, timm_name = MODELS.get(model), timm_name_of(model)
    smallest = entry.min_size if entry else 8
    if loader.image_size < smallest:
        reason = f" is too small for {model}; it needs {smallest} px or more"
        raise ConfigError(Setting("image_size", loader.image_size), reason)
    weights = weights_for(timm_name)
    cfg = weights.cfg
    assert cfg.architecture is not None
    architecture, tag = split_model_name_tag(timm_name)
    another_tag = tag and tag != weights.tag and not names_weights(timm_name)
    if entry is None and weights.file is not None and another_tag:
        reason = f": the folder has {architecture}.{weights.tag}, not {timm_name}; ask for {architecture}"
        raise ConfigError(Setting("weights"), reason)
    has_aux_head = bool(entry and entry.has_aux_head)
    return ModelSpec(
        name=f"{LOCAL}{Path(model).name}" if model.startswith(LOCAL) else model,
        timm_name=cfg.architecture if names_weights(timm_name) else timm_name,
        weights=weights,
        resize=Resize(
            size=loader.image_size,
            # A folder's config.json may name an interpolation that Pillow lacks; bicubic is timm's default.
            interpolation=cfg.interpolation if cfg.interpolation in RESAMPLING else "bicubic",
            crop_pct=cfg.crop_pct if loader.crop else None,
        ),
        normalisation=Normalisation(mean=tuple(cfg.mean), std=tuple(cfg.std)),
        has_aux_head=has_aux_head,
        structure=find_structure(cfg.architecture, weights, loader.image_size, has_aux_head=has_aux_head),
    )
