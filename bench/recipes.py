"""A whole run as Python: each recipe gives the settings of one run for a model by name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from bench.config import RunConfig
from imgcls.config import LoaderConfig, ModelConfig, SplitConfig, TrainConfig

INCEPTION_MIN_PX: Final = 75
REPORT_PX: Final = {"resnet50": 224, "efficientnet_b0": 299, "inception_v3": 299}
REPORT_EPOCHS: Final = {"resnet50": 20, "efficientnet_b0": 15, "inception_v3": 20}


def quick(model: str) -> RunConfig:
    """Small pictures and few epochs: minutes on two cores.

    ``python -m bench run-all``: three models on the embedded digits in under six minutes. It shows that
    everything works; 3 epochs from random weights rank nothing.
    """
    size = INCEPTION_MIN_PX if model == "inception_v3" else 64
    return RunConfig(
        model=model,
        recipe="quick",
        loader=LoaderConfig(image_size=size),
        architecture=_architecture(model),
        train=TrainConfig(epochs=3),
    )


def standard(model: str) -> RunConfig:
    """One identical budget for every model: 10 epochs at 224 px, batch 32. The comparison that counts."""
    return RunConfig(
        model=model,
        recipe="standard",
        loader=LoaderConfig(image_size=224),
        architecture=_architecture(model),
        train=TrainConfig(epochs=10),
    )


def report(model: str) -> RunConfig:
    """Use the original report's own settings, which are not equal budgets.

    224/299/299 px and 20/15/20 epochs for ResNet50, EfficientNet-B0 and Inception V3 (others: 224 px, 20
    epochs), Adam 1e-3 with reduce-on-plateau, batch 32, dropout 0.5 before EfficientNet's classifier, auxiliary
    loss 0.4 for Inception, over-represented classes undersampled to 1.5 times the smallest.

    Departures: the undersampling ratio and the patience of the plateau (2 epochs of validation loss) are ours,
    for the report does not state them; undersampling comes after the split and leaves val and test alone;
    duplicates stay in one split; the pictures are squeezed, with antialiasing.
    """
    return RunConfig(
        model=model,
        recipe="report",
        split=SplitConfig(max_class_ratio=1.5),
        loader=LoaderConfig(image_size=REPORT_PX.get(model, 224)),
        architecture=_architecture(model),
        train=TrainConfig(epochs=REPORT_EPOCHS.get(model, 20)),
    )


def _architecture(model: str) -> ModelConfig:
    return ModelConfig(dropout=0.5 if model.startswith("efficientnet") else 0.0)


RECIPES: Final[dict[str, Callable[[str], RunConfig]]] = {"quick": quick, "standard": standard, "report": report}
"""Recipes by the name that ``--recipe`` takes."""

_OWN_EPOCHS: Final = {"report": "the report's epochs (15 for EfficientNet-B0, 20 for the others)"}
_OWN_SIZES: Final = {
    "quick": "64 px (Inception V3: 75 px)",
    "report": "the report's sizes (ResNet50 224 px, EfficientNet-B0 and Inception V3 299 px)",
}


def describe_budget(config: RunConfig) -> str:
    """Say what a run was allowed to spend, in words that are equal where budgets are comparable."""
    own = RECIPES[config.recipe](config.model)
    train, epochs = config.train, f"{config.train.epochs} epochs"
    if train.epochs == own.train.epochs:
        epochs = _OWN_EPOCHS.get(config.recipe, epochs)
    words = [epochs, f"batch {config.loader.batch_size}", f"lr {train.lr:g}"]
    words.append(f"x {train.lr_factor:g} on a plateau of {train.lr_patience} epochs")
    if config.architecture != own.architecture:
        words.append(f"dropout {config.architecture.dropout:g}, auxiliary loss {config.architecture.aux_weight:g}")
    if config.split.max_class_ratio is not None:
        words.append(f"classes undersampled to {config.split.max_class_ratio:g} x the smallest")
    return ", ".join(words)


def describe_sizes(config: RunConfig) -> str:
    """Say by which rule the image size was chosen."""
    own = RECIPES[config.recipe](config.model).loader
    size = f"{config.loader.image_size} px"
    if replace(config.loader, batch_size=own.batch_size) == own:
        size = _OWN_SIZES.get(config.recipe, size)
    return f"{size}, cropped as the weights were trained" if config.loader.crop else size
