"""What identifies a run and a training: hashes of what was asked for, stable when optional fields are added."""

import hashlib
import json
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final

import msgspec

FROZEN_DEFAULTS: Final[dict[str, object]] = {
    "dropout": 0.0,
    "aux_weight": 0.4,
    "image_size": 224,
    "crop": False,
    "batch_size": 32,
    "epochs": 10,
    "lr": 1e-3,
    "schedule": "plateau",
    "select": "best",
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "lr_factor": 0.1,
    "lr_patience": 2,
    "device": "auto",
    "train_threads": 0,
    "split": "auto",
    "split_seed": 0,
    "max_class_ratio": None,
    "folds": None,
    "fold": None,
    "runtimes": (),
    "threads": 1,
}
"""Values that identity omits, as they were when it was made.

A default that changes in a config must not change the ids of runs that are done, so it does not change here.
"""


def identity(config: object) -> dict[str, Any]:
    """Return the fields of a dataclass that do not stand at their frozen default, nested ones as dicts.

    A field that is added later is omitted while it stands at its own default: it changes no id.
    """
    assert is_dataclass(config)
    content: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            content |= {field.name: nested} if (nested := identity(value)) else {}
        elif value != _default(field):
            content[field.name] = value
    return content


def _default(field: "Field[Any]") -> object:
    if field.name in FROZEN_DEFAULTS:
        return FROZEN_DEFAULTS[field.name]
    return field.default_factory() if field.default_factory is not MISSING else field.default


def hash_of(content: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of anything that msgspec can write, by its sorted JSON."""
    text = json.dumps(msgspec.to_builtins(content), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
