"""The config of a run, composed of the library's configs, and its overrides."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import tyro

from imgcls.config import (
    ArchitectureConfig,
    LoaderConfig,
    Precision,
    RuntimeConfig,
    SplitConfig,
    TrainConfig,
    parse_budget,
)
from imgcls.errors import ConfigError
from imgcls.messages import Setting

REPOSITORY: Final = Path(__file__).resolve().parents[1]
"""The folder of this code, which may be a checkout."""

DEFAULT_MODELS = ("resnet50", "efficientnet_b0", "inception_v3")

Decided = Annotated[str, tyro.conf.Suppress]
"""A field that is not a flag of its own: other arguments of the command line determine it."""


Quantity = Literal["epochs", "images", "minutes", "tmacs"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What is equal for all rows of a table, and the rule by which image sizes are chosen.

    ``amount`` of the quantity and ``image_size`` (pixels) are None if each model has its own, by the rule of the recipe
    named in ``rule``.
    """

    quantity: Quantity = "epochs"
    amount: float | None = None
    image_size: int | None = None
    crop: bool = False
    rule: str | None = None


Value = str | int | float | bool | None
"""Type of the value of an override."""

Overrides = dict[str, Value]
"""Values by field name; the field names of the parts of ``RunConfig`` are distinct."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The config of a run: training, evaluation and measurement of one model on one data set."""

    dataset: Decided = "digits"
    """Name of the data set, without its path."""
    model: Decided = "resnet50"
    """Name of the model."""
    recipe: Decided = "quick"
    """Name of the recipe that set the defaults."""
    seed: Annotated[int, tyro.conf.Suppress] = 0
    """Seed of initial weights, order of images, augmentation and dropout."""
    budget: Annotated[Budget, tyro.conf.Suppress] = field(default_factory=Budget)
    """What must be equal for runs to be compared in one table."""
    store: Annotated[str | None, tyro.conf.Suppress] = None
    """What the train images are stored as, such as jpeg q95 4:4:4; None: their exact pixels, wherever they are."""
    overrides: Annotated[Overrides, tyro.conf.Suppress] = field(default_factory=dict)
    """Values that differ from the recipe, except those that only determine where a run trains and what is timed."""
    split: SplitConfig = field(default_factory=SplitConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    augmentation_version: Annotated[int, tyro.conf.Suppress] = 1
    """Version of the augmentation of ``train``; older records have the first, whose random numbers were others."""


PARTS: Final[dict[str, Any]] = {
    "split": SplitConfig,
    "loader": LoaderConfig,
    "architecture": ArchitectureConfig,
    "train": TrainConfig,
    "runtime": RuntimeConfig,
}
"""The parts of ``RunConfig`` whose fields are flags, with their classes."""

FIELDS: Final[dict[str, str]] = {name: part for part, kind in PARTS.items() for name in kind.__dataclass_fields__}
"""The part of each of these fields, by the name of the field."""

OF_THE_MACHINE: Final = frozenset({"device", "devices", "train_threads", "runtimes", "threads"})
"""Fields that determine where a run trains and what is timed, but not the setting."""

OF_THE_TABLE: Final = frozenset(
    {
        "epochs",
        "budget",
        "image_size",
        "crop",
        "split",
        "split_seed",
        "folds",
        "fold",
        "drop_leaks",
        "near_duplicates",
        "group_by",
        "val_as_test",
    }
)
"""Fields that determine the table of a run; all others, except ``OF_THE_MACHINE``, are part of its setting."""


SELECT_RULE: Final = "select"
"""Rule of image sizes of the finalists of a race: each has its own, which its setting names."""


def of_the_table(budget: Budget) -> frozenset[str]:
    """Return the fields that all rows of a table with this budget share."""
    return OF_THE_TABLE - {"image_size"} if budget.rule == SELECT_RULE else OF_THE_TABLE


def value_of(config: RunConfig, name: str) -> Any:  # noqa: ANN401 - a field of any part
    """Return the value of a field by its name."""
    return getattr(getattr(config, FIELDS[name]), name)


def without_repetition(config: RunConfig) -> RunConfig:
    """Return a config without seed, fold and what is timed: what the runs of one setting have in common."""
    # Whether a fold was asked for by itself, or with the others, does not make another setting.
    overrides = {name: value for name, value in config.overrides.items() if name != "fold"}
    split = replace(config.split, fold=None)
    return replace(config, seed=0, split=split, overrides=overrides, runtime=RuntimeConfig())


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a config with some fields set by name; raises ConfigError if a value is out of range."""
    # All values of a part at once, because some are checked against each other.
    for part in dict.fromkeys(FIELDS[name] for name in values):
        own = {name: value for name, value in values.items() if FIELDS[name] == part}
        config = replace(config, **{part: replace(getattr(config, part), **own)})
    return config


def with_precision(config: RunConfig, precision: Precision) -> RunConfig:
    """Return a config whose precision is no longer ``auto``; bf16 becomes part of the setting's name."""
    changed = with_values(config, {"precision": precision})
    # One name for one training, whether its precision was given or decided. Without it a row is in fp32: named in each
    # row of most tables, it would hide the other differences.
    others = {name: value for name, value in config.overrides.items() if name != "precision"}
    return replace(changed, overrides=others | ({"precision": precision} if precision != "fp32" else {}))


def with_overrides(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a recipe's config with the user's values, the resulting budget, and the values that differ as overrides.

    Epochs or a budget, and an image size in ``values`` apply to every model, whatever the rule of the recipe is. Raises
    ConfigError if a value is out of range, or if both epochs and a budget are given.
    """
    values, quantity, amount = _with_budget(values)
    changed = with_values(config, values)
    differing = {name: value for name, value in values.items() if value != value_of(config, name)}
    # From ``values`` and not from ``differing``: the recipe's own value for one model, given explicitly, holds for all
    # models, which is a different budget from the recipe's rule.
    budget = replace(
        config.budget,
        quantity=quantity or config.budget.quantity,
        amount=amount or config.budget.amount,
        image_size=values.get("image_size", config.budget.image_size),
        crop=values.get("crop", config.budget.crop),
    )
    # A rule that no longer applies must not keep equal budgets of different recipes in different tables.
    if budget.amount is not None and budget.image_size is not None:
        budget = replace(budget, rule=None)
    # Device, threads and runtimes do not change the setting, and must not appear in its name.
    kept = {name: value for name, value in differing.items() if name not in OF_THE_MACHINE}
    return replace(changed, budget=budget, overrides=config.overrides | kept)


def _with_budget(values: Mapping[str, Any]) -> tuple[dict[str, Any], Quantity | None, float | None]:
    """Return values in which a budget of epochs is that field, and quantity and amount of the budget that they give."""
    text = values.get("budget")
    if text is None:
        return dict(values), "epochs" if "epochs" in values else None, values.get("epochs")
    if "epochs" in values:
        raise ConfigError(Setting("budget", text), ": not with ", Setting("epochs"))
    quantity, amount = parse_budget(text)
    if quantity == "epochs":
        others = {name: value for name, value in values.items() if name != "budget"}
        return others | {"epochs": int(amount)}, "epochs", int(amount)
    return dict(values), cast("Quantity", quantity), amount
