"""One run's settings, composed of the library's, and how overrides set them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

import tyro

from imgcls.config import ArchitectureConfig, LoaderConfig, RuntimeConfig, SplitConfig, TrainConfig

DEFAULT_MODELS = ("resnet50", "efficientnet_b0", "inception_v3")

Decided = Annotated[str, tyro.conf.Suppress]
"""A field that other words of the command line decide."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What is held equal between the rows of one table, and by which rule image sizes were chosen.

    ``amount`` of the quantity and ``image_size`` (pixels) are None where each model has its own by the recipe named in
    ``rule``.
    """

    quantity: Literal["epochs", "images", "minutes", "tmacs"] = "epochs"
    amount: float | None = None
    image_size: int | None = None
    crop: bool = False
    rule: str | None = None


Value = str | int | float | bool | None
"""What a field of a config may be set to."""

Overrides = dict[str, Value]
"""Values by the name of a config's field; no two parts of ``RunConfig`` share a field name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """One training, evaluation and measurement of one model on one data set."""

    dataset: Decided = "digits"
    """Name of the data set, never its place."""
    model: Decided = "resnet50"
    """Name of the model."""
    recipe: Decided = "quick"
    """The recipe that gave the defaults."""
    seed: Annotated[int, tyro.conf.Suppress] = 0
    """Seed of weights, order, augmentation and dropout."""
    budget: Annotated[Budget, tyro.conf.Suppress] = field(default_factory=Budget)
    """What this run shares with those it may be compared with."""
    overrides: Annotated[Overrides, tyro.conf.Suppress] = field(default_factory=dict)
    """What differs from the recipe, but for the machine's own part."""
    split: SplitConfig = field(default_factory=SplitConfig)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


PARTS: Final = ("split", "loader", "architecture", "train", "runtime")
"""The parts of ``RunConfig`` whose fields are flags."""

OF_THE_MACHINE: Final = frozenset({"device", "train_threads", "runtimes", "threads"})
"""Fields that say where a run trains and what is timed, not what is trained."""

OF_THE_TABLE: Final = frozenset({"epochs", "image_size", "crop", "split", "split_seed", "folds", "fold"})
"""Fields that decide in which table a run stands; the others are its setting."""


def part_of(name: str) -> str:
    """Return the part of ``RunConfig`` that has a field of this name; raises KeyError if none has."""
    for part in PARTS:
        if name in getattr(RunConfig(), part).__dataclass_fields__:
            return part
    raise KeyError(name)


def value_of(config: RunConfig, name: str) -> Any:  # noqa: ANN401 - a field of any part
    """Return the value of a field by its name."""
    return getattr(getattr(config, part_of(name)), name)


def with_values(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a config with some fields set by their names; raises ConfigError for a value out of its range."""
    for name, value in values.items():
        part = part_of(name)
        config = replace(config, **{part: replace(getattr(config, part), **{name: value})})
    return config


def with_overrides(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Return a recipe's config with what the user asked for, its budget and the list of what differs.

    Epochs and an image size that are named are equal for every model, whatever the recipe's own rule is.
    """
    changed = with_values(config, values)
    differing = {name: value for name, value in values.items() if value != value_of(config, name)}
    budget = replace(
        config.budget,
        amount=values.get("epochs", config.budget.amount),
        image_size=values.get("image_size", config.budget.image_size),
        crop=values.get("crop", config.budget.crop),
    )
    if budget.amount is not None and budget.image_size is not None:
        budget = replace(budget, rule=None)
    kept = {name: value for name, value in differing.items() if name not in OF_THE_MACHINE}
    return replace(changed, budget=budget, overrides=config.overrides | kept)
