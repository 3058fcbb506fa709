"""The candidates of a race: models by name, pattern, file or size, at one image size or several."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from itertools import product
from pathlib import Path
from typing import Final

import timm
import torch

from imgcls.config import LoaderConfig
from imgcls.errors import ConfigError
from imgcls.messages import Setting
from imgcls.models.model_names import names_weights
from imgcls.models.registry import MODELS, resolve_specs, timm_name_of
from imgcls.models.weights import CONFIG_FILE, random_weights

LOGGER = logging.getLogger(__name__)

DEFAULTS: Final[dict[str, str]] = {
    "mobilenetv3_small_100": "the smallest network that phones commonly run",
    "mobilenetv3_large_100": "the usual baseline on phones",
    "mobilenetv4_conv_small": "the convolutional MobileNetV4, small",
    "mobilenetv4_conv_medium": "the convolutional MobileNetV4, at the cost of a ResNet18",
    "mobilenetv4_hybrid_medium": "the same with attention in its last stages",
    "mobileone_s1": "branches in training that are merged for use",
    "ghostnetv3_100": "cheap features from linear maps",
    "efficientnet_b0": "compound scaling, its smallest; the report's winner",
    "efficientnet_b2": "compound scaling, at twice the cost",
    "tf_efficientnet_lite0": "without squeeze-and-excitation, for integer hardware",
    "tf_efficientnetv2_b0": "fused convolutions, small",
    "tf_efficientnetv2_s": "fused convolutions, pre-trained on ImageNet-21k",
    "resnet18": "the plain residual network, small",
    "resnet50": "the plain residual network that papers compare with",
    "resnet50d": "the same with a better stem",
    "regnety_004": "a designed space of networks, at mobile cost",
    "regnety_032": "a designed space of networks, at the cost of a ResNet50",
    "repvgg_a2": "plain 3 x 3 convolutions after merging, fast on GPUs",
    "densenet121": "dense connections, common on medical images",
    "convnext_atto": "a modern convolutional network, tiny",
    "convnext_tiny": "a modern convolutional network, pre-trained on ImageNet-12k",
    "convnextv2_nano": "the same pre-trained with masked images",
    "inception_next_tiny": "ConvNeXt with kernels divided into branches",
    "fastvit_t8": "a hybrid for phones, whose branches are merged",
    "fastvit_sa12": "the same with attention in its last stage",
    "efficientvit_b1": "linear attention, for high resolutions",
    "caformer_s18": "convolutions, then attention",
    "maxvit_tiny_rw_224": "attention in blocks and grids",
    "swin_tiny_patch4_window7_224": "attention in shifted windows",
    "deit3_small_patch16_224": "a ViT trained on ImageNet alone",
    "vit_small_patch16_224": "a ViT pre-trained on ImageNet-21k",
    "vit_small_patch16_dinov3": "a ViT pre-trained without labels",
    "vit_base_patch16_siglip_224": "a ViT pre-trained on images with texts",
}
"""Models that are tried if none are named, each with the reason: they span cost and kind, and have safetensors."""

UNDER: Final = "all-under-"
"""Start of the word for all pre-trained models with fewer parameters, such as ``all-under-10M``."""

UNITS: Final = {"K": 1e3, "M": 1e6, "B": 1e9}


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model at an image size in pixels."""

    model: str
    image_size: int

    def __str__(self) -> str:
        """Return both, as in ``resnet50, 160 px``."""
        return f"{self.model}, {self.image_size} px"


def models_of(names: Sequence[str], *, weights: str) -> tuple[str, ...]:
    """Return the models that are named, each once.

    ``names`` are names or patterns of timm's list, files with a name or pattern a line, or ``all-under-10M``; without
    any, they are the models in the folder ``weights``, or ``DEFAULTS`` if it is none. Raises ConfigError if a name or
    pattern matches nothing.
    """
    given = [model for name in names for model in _named(name)]
    return tuple(dict.fromkeys(given or _models_in(weights) or DEFAULTS))


def candidates_of(models: Sequence[str], sizes: Sequence[int], *, named: Sequence[str]) -> list[Candidate]:
    """Return each model at each size; those that cannot have a size are skipped, which is logged.

    Raises ConfigError for such a model that is ``named`` itself, and if fewer than two candidates remain.
    """
    every = [Candidate(model=model, image_size=size) for model, size in product(models, dict.fromkeys(sizes))]
    usable = [candidate for candidate in every if _has_size(candidate, named)]
    if len(usable) < 2:  # noqa: PLR2004 - nothing to select
        reason = f": a selection needs two or more, and has {', '.join(map(str, usable)) or 'none'}"
        raise ConfigError(Setting("candidates"), reason)
    return usable


def _named(name: str) -> Iterator[str]:
    """Yield the models of one value of the flag."""
    if name.startswith(UNDER):
        yield from _under(name)
    elif Path(name).is_file() and not names_weights(name):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        words = [line.partition("#")[0].strip() for line in lines]
        if not any(words):
            raise ConfigError(
                Setting("candidates", name), ": the file names no model; write one name or pattern a line"
            )
        for word in filter(None, words):
            yield from _named(word)
    elif any(mark in name for mark in "*?["):
        yield from _pattern(name)
    else:
        timm_name_of(name)  # raises ConfigError for one that does not exist
        yield name


def _pattern(pattern: str) -> list[str]:
    known = _pretrained()
    models = matching(known, pattern)
    if not models:
        reason = f": matches none of timm's {len(known):,} pre-trained models; try 'mobilenetv*' or 'vit_small*'"
        raise ConfigError(Setting("candidates", pattern), reason)
    return models


def _pretrained() -> list[str]:
    """Return the architectures of timm for which the hub holds weights, and the registered models."""
    return list(dict.fromkeys([*MODELS, *(name.partition(".")[0] for name in timm.list_models(pretrained=True))]))


def _under(word: str) -> list[str]:
    number, unit = word.removeprefix(UNDER)[:-1], word[-1:].upper()
    try:
        limit = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise ConfigError(Setting("candidates", word), ": write for example all-under-10M (K, M or B)") from None
    known = _pretrained()
    LOGGER.info("counting the parameters of %d models", len(known))
    models = [name for name in known if (count := _parameters(name)) is not None and count < limit]
    if not models:
        raise ConfigError(Setting("candidates", word), ": timm has no pre-trained model with so few parameters")
    return models


def _parameters(name: str) -> int | None:
    """Return the number of parameters with timm's own classifier, or None if timm cannot build it without weights."""
    try:
        # On the meta device nothing is allocated or drawn.
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = timm.create_model(timm_name_of(name), pretrained=False)
    except Exception as error:  # noqa: BLE001 - of any of timm's mechanisms; the model is not a candidate
        LOGGER.debug("%s: %s", name, error)
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def _models_in(weights: str) -> list[str]:
    folder = Path(weights).expanduser()
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_FILE}")) if folder.is_dir() else []


def _has_size(candidate: Candidate, names: Sequence[str]) -> bool:
    """Return whether a network can have its size; raises ConfigError for one that was named itself."""
    # Weights that are named are read when the runs are planned, and report it then.
    if names_weights(timm_name_of(candidate.model)):
        return True
    try:
        resolve_specs([(candidate.model, LoaderConfig(image_size=candidate.image_size))], random_weights)
    except ConfigError as error:
        if candidate.model in names:
            raise
        LOGGER.warning("%s skipped: %s", candidate, error)
        return False
    return True
