"""What a sweep searches: knobs declared as data, and how their values become a run's settings."""

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
class Knob:
    """A field of a part of RunConfig and its range; ``high`` of None is the default setting's own value."""

    part: Part
    low: float
    high: float | None
    log: bool = False
    integer: bool = False
    choices: tuple[int, ...] = ()


KNOBS: Final[dict[str, Knob]] = {
    "lr": Knob(part="train", low=1e-5, high=1e-2, log=True),
    "dropout": Knob(part="architecture", low=0.0, high=0.7),
    "epochs": Knob(part="train", low=1, high=None, integer=True),
    "weight_decay": Knob(part="train", low=0.0, high=1e-3),
    "label_smoothing": Knob(part="train", low=0.0, high=0.2),
    "batch_size": Knob(part="loader", low=8, high=128, log=True, integer=True),
    "image_size": Knob(part="loader", low=64, high=384, choices=(64, 96, 128, 160, 192, 224, 256, 299, 384)),
}
"""Knobs by name; ``--space`` picks among them."""

DEFAULT_SPACE: Final = ("lr", "dropout", "epochs")

Space = dict[str, Knob]


def parse_space(words: Sequence[str], base: RunConfig) -> Space:
    """Turn ``NAME`` or ``NAME=LOW:HIGH`` into knobs with ranges.

    Raises ConfigError: unknown knob, a range that is upside down or not one of numbers, a value that its setting
    refuses, or a range without the default, which is every study's first trial.
    """
    space = {}
    for word in words:
        name, _, limits = word.partition("=")
        if name not in KNOBS:
            message = f"--space {name}: unknown knob; known: {', '.join(KNOBS)}"
            raise ConfigError(message)
        space[name] = _limited(name, limits, _value(base, name))
    if not space:
        message = f"--space needs one knob or more; known: {', '.join(KNOBS)}"
        raise ConfigError(message)
    for name, knob in space.items():
        for end in (knob.low, knob.high, *knob.choices):
            assert end is not None
            apply(base, {name: int(end) if knob.integer or knob.choices else end})
    return space


def _limited(name: str, limits: str, default: Value) -> Knob:
    knob = KNOBS[name]
    low, high = _range(name, limits) if limits else (knob.low, default if knob.high is None else knob.high)
    if low > high:
        message = f"--space {name}={low:g}:{high:g} is upside down; write the lower end first"
        raise ConfigError(message)
    if not low <= default <= high:
        message = f"--space {name}={low:g}:{high:g} leaves out the default, {default:g}, which is the first trial"
        raise ConfigError(message)
    if knob.log and low <= 0:
        message = f"--space {name}={low:g}:{high:g}: a logarithmic range starts above 0"
        raise ConfigError(message)
    choices = sorted({choice for choice in knob.choices if low <= choice <= high} | {int(default)})
    return replace(knob, low=low, high=high, choices=tuple(choices) if knob.choices else ())


def _range(name: str, limits: str) -> tuple[float, float]:
    try:
        low, high = map(float, limits.split(":"))
    except ValueError:
        message = f"--space {name}={limits}: not a range; write {name}=LOW:HIGH"
        raise ConfigError(message) from None
    if KNOBS[name].integer and not (low.is_integer() and high.is_integer()):
        message = f"--space {name}={limits}: both ends must be whole numbers"
        raise ConfigError(message)
    return low, high


def _value(config: RunConfig, name: str) -> Value:
    value: Value = getattr(getattr(config, KNOBS[name].part), name)
    return value


def defaults(base: RunConfig, space: Space) -> dict[str, Value]:
    """Give the default setting's own values of the knobs."""
    return {name: _value(base, name) for name in space}


def apply(base: RunConfig, values: Values) -> RunConfig:
    """Give the setting of a trial: the knobs' values, a cosine over its own epochs, the last epoch's weights.

    With the best epoch kept, a long run contains the short one and epochs are no knob. So a trial's schedule is
    stretched to its own epochs, and it is scored at its last one. Only the default setting, the first trial, is
    trained and scored as its own row of the leaderboard is, so that what is chosen is never below that row on val.
    """
    changed = with_overrides(base, {**values, "schedule": "cosine", "select": "last"})
    return replace(changed, budget=base.budget)


def suggest(trial: "Trial", space: Space) -> dict[str, Value]:
    """Draw a trial's values."""
    return {name: _suggest(trial, name, knob) for name, knob in space.items()}


def _suggest(trial: "Trial", name: str, knob: Knob) -> Value:
    assert knob.high is not None
    if knob.choices:
        return trial.suggest_categorical(name, knob.choices)
    if knob.integer:
        return trial.suggest_int(name, int(knob.low), int(knob.high), log=knob.log)
    return trial.suggest_float(name, knob.low, knob.high, log=knob.log)


def flags(config: RunConfig) -> list[str]:
    """Return the flags that turn the recipe's own setting into this one, but for those of a machine."""
    words = []
    for name, value in config.overrides.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words
