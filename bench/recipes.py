"""A whole run as Python: each recipe gives the settings of one run for a model by name."""

from collections.abc import Callable
from typing import Final

from bench.config import Budget, RunConfig
from imgcls.config import ArchitectureConfig, LoaderConfig, SplitConfig, TrainConfig

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
        budget=Budget(amount=3, rule="quick"),
        loader=LoaderConfig(image_size=size),
        architecture=_architecture(model),
        train=TrainConfig(epochs=3),
    )


def standard(model: str) -> RunConfig:
    """One identical budget for every model: 10 epochs at 224 px, batch 32. The comparison that counts."""
    return RunConfig(
        model=model,
        recipe="standard",
        budget=Budget(amount=10, image_size=224),
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
        budget=Budget(rule="report"),
        split=SplitConfig(max_class_ratio=1.5),
        loader=LoaderConfig(image_size=REPORT_PX.get(model, 224)),
        architecture=_architecture(model),
        train=TrainConfig(epochs=REPORT_EPOCHS.get(model, 20)),
    )


def _architecture(model: str) -> ArchitectureConfig:
    return ArchitectureConfig(dropout=0.5 if model.startswith("efficientnet") else 0.0)


RECIPES: Final[dict[str, Callable[[str], RunConfig]]] = {"quick": quick, "standard": standard, "report": report}
"""Recipes by the name that ``--recipe`` takes."""

OWN_EPOCHS: Final = {"report": "the report's epochs (15 for EfficientNet-B0, 20 for the others)"}
"""By recipe: the rule of epochs that differ between models."""
OWN_SIZES: Final = {
    "quick": "64 px (Inception V3: 75 px)",
    "report": "the report's sizes (ResNet50 224 px, EfficientNet-B0 and Inception V3 299 px)",
}
"""By recipe: the rule of image sizes that differ between models."""


def training_text(config: RunConfig) -> str:
    """Return in words how a run trains, apart from its budget."""
    train = config.train
    parts = [
        f"Adam, lr {train.lr:g}, {train.schedule} schedule, batch {config.loader.batch_size}, {train.select} epoch"
    ]
    parts += [f"weight decay {train.weight_decay:g}"] if train.weight_decay else []
    parts += [f"label smoothing {train.label_smoothing:g}"] if train.label_smoothing else []
    return ", ".join(parts)


def budget_text(budget: Budget) -> str:
    """Return in words what is held equal, and the rule of image sizes."""
    return f"{epochs_text(budget)}, {sizes_text(budget)}"


def epochs_text(budget: Budget) -> str:
    """Return in words what is held equal."""
    if budget.amount is None:
        assert budget.rule is not None
        return OWN_EPOCHS[budget.rule]
    return f"{budget.amount:g} {budget.quantity}"


def sizes_text(budget: Budget) -> str:
    """Return in words by which rule the image size was chosen."""
    if budget.image_size is None:
        assert budget.rule is not None
        size = OWN_SIZES[budget.rule]
    else:
        size = f"{budget.image_size} px"
    return f"{size}, cropped as the weights were trained" if budget.crop else size
