"""Recipes: functions that return the config of a run for the name of a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bench.config import FIELDS, SELECT_RULE, Budget, RunConfig, Value, with_overrides
from imgcls.config import ArchitectureConfig, LoaderConfig, SplitConfig, TrainConfig
from imgcls.errors import ConfigError
from imgcls.messages import Setting

INCEPTION_MIN_PX: Final = 75
EMBEDDED: Final = "digits"
"""The data set that needs no download, of which the commands without ``--data`` make a check of the installation."""
UNMIRRORED: Final = frozenset({"digits", "digits-uneven"})
"""Data sets whose images are never mirrored: mirror images of digits are no digits."""
MAX_SEED: Final = 2**32 - 1
"""Largest seed that all generators accept."""
REPORT_PX: Final = {"resnet50": 224, "efficientnet_b0": 299, "inception_v3": 299}
REPORT_EPOCHS: Final = {"resnet50": 20, "efficientnet_b0": 15, "inception_v3": 20}


def quick(model: str) -> RunConfig:
    """Return a config of small images and few epochs, which takes minutes on two cores.

    ``python -m bench run-all`` trains three models on scikit-learn's digits. It is a test of the
    installation: 3 epochs on small images are not a basis for ranking models.
    """
    # Inception V3 reduces its input so often that 75 px is the smallest size it accepts.
    size = INCEPTION_MIN_PX if model == "inception_v3" else 64
    return RunConfig(
        model=model,
        recipe="quick",
        budget=Budget(amount=3, rule="quick"),
        loader=LoaderConfig(image_size=size),
        architecture=_architecture(model),
        train=TrainConfig(epochs=3, no_hflip=True),
    )


def standard(model: str) -> RunConfig:
    """Return a config with the same budget for every model: 10 epochs at 224 px, batch size 32."""
    return RunConfig(
        model=model,
        recipe="standard",
        budget=Budget(amount=10, image_size=224),
        loader=LoaderConfig(image_size=224),
        architecture=_architecture(model),
        train=TrainConfig(epochs=10, precision="auto"),
    )


def finetune(model: str) -> RunConfig:
    """Return a config for fine-tuning pre-trained models: 5 epochs at 160 px, batch size 32, for every model.

    Each part was chosen on the val split of a half of TrashNet; docs/decisions.md has the figures.
    """
    return RunConfig(
        model=model,
        recipe="finetune",
        budget=Budget(amount=5, image_size=160),
        loader=LoaderConfig(image_size=160),
        architecture=ArchitectureConfig(),
        train=TrainConfig(
            epochs=5,
            lr=5e-4,
            tune_layers="head-then-all",
            norm="frozen",
            optimizer="adamw",
            weight_decay=0.05,
            layer_decay=0.9,
            schedule="cosine",
            warmup=0.1,
            augmentation="crop",
            precision="auto",
        ),
    )


def report(model: str) -> RunConfig:
    """Return a config with the settings of the original report, whose budgets differ between models.

    224/299/299 px and 20/15/20 epochs for ResNet50, EfficientNet-B0 and Inception V3 (others: 224 px, 20 epochs),
    Adam with learning rate 1e-3 reduced on plateaus, batch size 32, dropout 0.5 before EfficientNet's classifier,
    weight 0.4 of Inception's auxiliary loss, over-represented classes undersampled to 1.5 times the smallest.

    Differences from the report: the undersampling ratio and the patience of the schedule (2 epochs of validation loss)
    are our choice, as the report does not state them; undersampling is applied after the split and to train only;
    duplicates stay in one split; images are resized to a square without cropping, with antialiasing.
    """
    return RunConfig(
        model=model,
        recipe="report",
        # Neither epochs nor image size is the same for all models, so that the rule itself is the budget.
        budget=Budget(rule="report"),
        split=SplitConfig(max_class_ratio=1.5),
        loader=LoaderConfig(image_size=REPORT_PX.get(model, 224)),
        architecture=_architecture(model),
        train=TrainConfig(epochs=REPORT_EPOCHS.get(model, 20)),
    )


FROM_RANDOM: Final[dict[str, Value]] = {"tune_layers": "all", "layer_decay": 1.0, "norm": "batch"}
"""What replaces a recipe's own values where a model starts from random weights, whose layers have nothing to keep."""


def for_weights(config: RunConfig, init: str) -> RunConfig:
    """Return a config without what only pre-trained weights allow, if they are random.

    What is replaced is an override, so that the setting names it; other values than the recipe's own stay.
    """
    if init != "random":
        return config
    return with_overrides(config, {name: value for name, value in FROM_RANDOM.items() if name not in config.overrides})


def _architecture(model: str) -> ArchitectureConfig:
    # The dropout of the original report.
    return ArchitectureConfig(dropout=0.5 if model.startswith("efficientnet") else 0.0)


RECIPES: Final[dict[str, Callable[[str], RunConfig]]] = {
    "quick": quick,
    "finetune": finetune,
    "standard": standard,
    "report": report,
}
"""Recipes by name."""


def default_recipe(data: str) -> str:
    """Return the recipe of commands that name none: finetune, but quick for the embedded digits."""
    return "quick" if data.lower() == EMBEDDED else "finetune"


def configs_of(
    models: Sequence[str],
    *,
    data: str = "",
    recipe: str | None,
    seeds: Sequence[int],
    overrides: Mapping[str, object],
) -> list[RunConfig]:
    """Return the config of every run of a command: each model with each seed and, with cross-validation, each fold.

    ``overrides`` are values by field name; a recipe of None is the default one of ``data``. Raises ConfigError if the
    recipe or a name is unknown, a value is out of range, or there is no model or seed.
    """
    recipe = recipe or default_recipe(data)
    # Names of data sets are valid in any case.
    overrides = ({"no_hflip": True} if data.lower() in UNMIRRORED else {}) | dict(overrides)
    if recipe not in RECIPES:
        raise ConfigError(Setting("recipe", recipe), f": unknown; known: {', '.join(RECIPES)}")
    if not models or not seeds:
        raise ConfigError(Setting("models"), " and ", Setting("seeds"), " need one value or more")
    if wrong := [seed for seed in seeds if not 0 <= seed <= MAX_SEED]:
        raise ConfigError(Setting("seeds", wrong[0]), f"; use 0 to {MAX_SEED}")
    if unknown := [name for name in overrides if name not in FIELDS]:
        message = f"{unknown[0]}: no such setting; known: {', '.join(FIELDS)}"
        raise ConfigError(message)
    return [
        replace(config, seed=seed, split=split)
        for config in (with_overrides(RECIPES[recipe](model), overrides) for model in models)
        for seed in seeds
        for split in _folds(config.split)
    ]


def _folds(split: SplitConfig) -> list[SplitConfig]:
    """Return the split config of each fold, or the config itself without folds or with a single given fold."""
    if split.folds is None or split.fold is not None:
        return [split]
    return [replace(split, fold=fold) for fold in range(split.folds)]


SHARES: Final = (0.25, 0.5, 1.0)
"""Shares of train that a learning curve trains on; the last two are a doubling."""

OWN_EPOCHS: Final = {"report": "the report's epochs (15 for EfficientNet-B0, 20 for the others)"}
"""The rule of epochs of each recipe in which they differ between models."""
OWN_SIZES: Final = {
    SELECT_RULE: "each model at the size that was selected",
    "quick": "64 px (Inception V3: 75 px)",
    "report": "the report's sizes (ResNet50 224 px, EfficientNet-B0 and Inception V3 299 px)",
}
"""The rules of image sizes that differ between models: of recipes, and of a race."""


def training_text(config: RunConfig) -> str:
    """Return a description of the training of a run, without its budget."""
    train = config.train
    name = {"adam": "Adam", "adamw": "AdamW"}[train.optimizer]
    parts = [
        f"{name}, lr {train.lr:g}, {train.schedule} schedule, batch {config.loader.batch_size}, {train.select} epoch"
    ]
    # What is off by default is mentioned only if it is on.
    parts += [f"warm-up {100 * train.warmup:g} %"] if train.warmup else []
    parts += [f"layer decay {train.layer_decay:g}"] if train.layer_decay < 1 else []
    parts += [f"weight decay {train.weight_decay:g}"] if train.weight_decay else []
    parts += [f"label smoothing {train.label_smoothing:g}"] if train.label_smoothing else []
    parts += [f"EMA {train.ema:g}"] if train.ema else []
    parts += [f"imbalance {train.imbalance}"] if train.imbalance != "none" else []
    parts += [f"{100 * train.train_share:g} % of train"] if train.train_share < 1 else []
    version = f" (version {config.augmentation_version})" if config.augmentation_version > 1 else ""
    parts += [f"augmentation {train.augmentation}{version}"] if train.augmentation != "report" else []
    parts += ["without mirror images"] if train.no_hflip else []
    parts += ["batch norm frozen"] if train.norm == "frozen" else []
    parts += [f"layers {train.tune_layers}"] if train.tune_layers != "all" else []
    return ", ".join(parts)


def budget_text(budget: Budget) -> str:
    """Return a description of a budget: its quantity and its rule of image sizes."""
    return f"{epochs_text(budget)}, {sizes_text(budget)}"


def epochs_text(budget: Budget) -> str:
    """Return the amount and quantity of a budget, or the recipe's rule of epochs."""
    if budget.amount is None:
        assert budget.rule is not None
        return OWN_EPOCHS[budget.rule]
    if budget.quantity == "tmacs":
        return f"{budget.amount:g} TMACs of training"
    quantity = budget.quantity.removesuffix("s") if budget.amount == 1 else budget.quantity
    # Not ",g", which rounds to six digits.
    amount = f"{int(budget.amount):,}" if float(budget.amount).is_integer() else f"{budget.amount:g}"
    return f"{amount} {quantity}{' of training' if budget.quantity == 'minutes' else ''}"


def sizes_text(budget: Budget) -> str:
    """Return the image size of a budget, or the recipe's rule of image sizes."""
    if budget.image_size is None:
        assert budget.rule is not None
        size = OWN_SIZES[budget.rule]
    else:
        size = f"{budget.image_size} px"
    return f"{size}, cropped as timm evaluates the weights" if budget.crop else size
