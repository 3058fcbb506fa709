"""Search spaces: the hyperparameters, their ranges, and the configs and flags of their values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from bench.config import RunConfig, with_overrides
from imgcls.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Trial

Part = Literal["loader", "architecture", "train"]

Value = float | int

Values = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hyperparameter:
    """A field of a part of RunConfig, and its range; a ``high`` of None stands for the value of the default setting.

    A range that is ``widened`` extends to twice the value of a default setting that lies above it.
    """

    part: Part
    low: float
    high: float | None
    log: bool = False
    integer: bool = False
    choices: tuple[int, ...] = ()
    widened: bool = False


HYPERPARAMETERS: Final[dict[str, Hyperparameter]] = {
    "lr": Hyperparameter(part="train", low=1e-5, high=1e-2, log=True),
    "dropout": Hyperparameter(part="architecture", low=0.0, high=0.7),
    # Up to the default's own, so that no trial is trained longer than the row it is compared with, unless asked for.
    "epochs": Hyperparameter(part="train", low=1, high=None, integer=True),
    "weight_decay": Hyperparameter(part="train", low=0.0, high=1e-3, widened=True),
    "label_smoothing": Hyperparameter(part="train", low=0.0, high=0.2),
    "layer_decay": Hyperparameter(part="train", low=0.6, high=1.0),
    "warmup": Hyperparameter(part="train", low=0.0, high=0.3),
    "ema": Hyperparameter(part="train", low=0.9, high=0.999),
    "batch_size": Hyperparameter(part="loader", low=8, high=128, log=True, integer=True),
    # A choice of sizes: each one needs a cache of its own.
    "image_size": Hyperparameter(part="loader", low=64, high=384, choices=(64, 96, 128, 160, 192, 224, 256, 299, 384)),
}
"""Hyperparameters by name, from which ``--space`` selects."""

DEFAULT_SPACE: Final = ("lr", "dropout", "epochs")

Space = dict[str, Hyperparameter]


def parse_space(words: Sequence[str], base: RunConfig) -> Space:
    """Return the search space given by words of the form ``NAME`` or ``NAME=LOW:HIGH``.

    Raises ConfigError for an unknown hyperparameter, a range that is not two numbers in ascending order, a bound that
    the config refuses, or a range without the default value, which is the first trial of each study.
    """
    if base.train.tune_layers == "head":
        message = "--tune-layers head: its classifier has no hyperparameters to search; use head-then-all or all"
        raise ConfigError(message)
    if base.train.imbalance == "post-hoc":
        message = "--imbalance post-hoc: it has no training whose hyperparameters could be searched; use none"
        raise ConfigError(message)
    if base.train.budget is not None:
        message = f"--budget {base.train.budget}: a sweep searches epochs; use --epochs or --budget epochs=N"
        raise ConfigError(message)
    space = {}
    for word in words:
        name, _, limits = word.partition("=")
        if name not in HYPERPARAMETERS:
            message = f"--space {name}: unknown hyperparameter; known: {', '.join(HYPERPARAMETERS)}"
            raise ConfigError(message)
        space[name] = _limited(name, limits, _value(base, name))
    if not space:
        message = f"--space needs one hyperparameter or more; known: {', '.join(HYPERPARAMETERS)}"
        raise ConfigError(message)
    # The config validates its values: without this check, an invalid bound would fail only in the trial that draws it.
    for name, hyperparameter in space.items():
        for end in (hyperparameter.low, hyperparameter.high, *hyperparameter.choices):
            assert end is not None
            if name == "batch_size" and base.loader.micro_batch is not None:
                message = "--space batch_size: not with --micro-batch, which must divide every batch size"
                raise ConfigError(message)
            apply(base, {name: int(end) if hyperparameter.integer or hyperparameter.choices else end})
    return space


def _limited(name: str, limits: str, default: Value) -> Hyperparameter:
    hyperparameter = HYPERPARAMETERS[name]
    low, high = _range(name, limits) if limits else (hyperparameter.low, _high(hyperparameter, default))
    if low > high:
        message = f"--space {name}={low:g}:{high:g}: the lower bound exceeds the upper bound"
        raise ConfigError(message)
    # Written so that a NaN, for which every comparison is false, is refused too.
    if not low <= default <= high:
        message = f"--space {name}={low:g}:{high:g} excludes the default, {default:g}, which is the first trial"
        raise ConfigError(message)
    if hyperparameter.log and low <= 0:
        message = f"--space {name}={low:g}:{high:g}: a logarithmic range starts above 0"
        raise ConfigError(message)
    # With the default, which need not be one of the listed values, such as 75 px of Inception V3.
    choices = sorted({choice for choice in hyperparameter.choices if low <= choice <= high} | {int(default)})
    return replace(hyperparameter, low=low, high=high, choices=tuple(choices) if hyperparameter.choices else ())


def _high(hyperparameter: Hyperparameter, default: Value) -> float:
    if hyperparameter.high is None:
        return default
    # The decay of AdamW is many times that of Adam, where it is added to the gradient.
    return max(hyperparameter.high, 2 * default) if hyperparameter.widened else hyperparameter.high


def _range(name: str, limits: str) -> tuple[float, float]:
    try:
        low, high = map(float, limits.split(":"))
    except ValueError:
        message = f"--space {name}={limits}: not a range; write {name}=LOW:HIGH"
        raise ConfigError(message) from None
    if HYPERPARAMETERS[name].integer and not (low.is_integer() and high.is_integer()):
        message = f"--space {name}={limits}: both ends must be whole numbers"
        raise ConfigError(message)
    return low, high


def _value(config: RunConfig, name: str) -> Value:
    value: Value | None = getattr(getattr(config, HYPERPARAMETERS[name].part), name)
    if value is None:
        message = f"--space {name}: the default setting has none; give its value with --{name.replace('_', '-')}"
        raise ConfigError(message)
    return value


def defaults(base: RunConfig, space: Space) -> dict[str, Value]:
    """Return the values of the hyperparameters in the default setting."""
    return {name: _value(base, name) for name in space}


def apply(base: RunConfig, values: Values) -> RunConfig:
    """Return the config of a trial: its values, a cosine schedule over its own epochs, and the last epoch's weights.

    The default setting, which is the first trial, does not pass through here: it is trained and scored as its row of
    the leaderboard, so that the chosen setting is never below that row on val.
    """
    # With the best epoch kept, a long run would contain the short one, and epochs could not be searched. Hence the
    # schedule ends with the trial's own epochs, and the trial is scored at its last one.
    changed = with_overrides(base, {**values, "schedule": "cosine", "select": "last"})
    # Epochs and image size change the budget; a tuned run keeps that of the default, which it is compared with.
    return replace(changed, budget=base.budget)


def suggest(trial: "Trial", space: Space) -> dict[str, Value]:
    """Draw the values of a trial from its sampler."""
    return {name: _suggest(trial, name, hyperparameter) for name, hyperparameter in space.items()}


def _suggest(trial: "Trial", name: str, hyperparameter: Hyperparameter) -> Value:
    assert hyperparameter.high is not None
    if hyperparameter.choices:
        return trial.suggest_categorical(name, hyperparameter.choices)
    if hyperparameter.integer:
        return trial.suggest_int(name, int(hyperparameter.low), int(hyperparameter.high), log=hyperparameter.log)
    return trial.suggest_float(name, hyperparameter.low, hyperparameter.high, log=hyperparameter.log)


def flags(config: RunConfig) -> list[str]:
    """Return the flags that give this setting when added to the recipe, except device, threads and runtimes."""
    words = []
    for name, value in config.overrides.items():
        flag = f"--{name.replace('_', '-')}"
        # Of a store the name alone: its quality is fixed.
        text = str(value).partition(" ")[0] if name == "store" else str(value)
        words += [flag] if value is True else [flag, text]
    return words
