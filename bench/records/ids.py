"""Ids of runs and trainings: hashes of their settings, which do not change when optional fields are added."""

import hashlib
import json
from dataclasses import MISSING, fields, is_dataclass
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
    "tune_layers": "all",
    "norm": "batch",
    "feature_views": 1,
    "optimizer": "adam",
    "layer_decay": 1.0,
    "warmup": 0.0,
    "ema": None,
    "augmentation": "report",
    "precision": "fp32",
    "micro_batch": None,
    "no_hflip": False,
    "imbalance": "none",
    "train_share": 1.0,
    "budget": None,
    "device": "auto",
    "train_threads": 0,
    "devices": 1,
    "split": "auto",
    "split_seed": 0,
    "max_class_ratio": None,
    "folds": None,
    "fold": None,
    "drop_leaks": False,
    "near_duplicates": "group",
    "group_by": None,
    "val_as_test": False,
    "runtimes": (),
    "threads": 1,
}
"""Values that ``identity`` omits: the defaults at the time when ids were introduced.

A changed default of a config must not be changed here, because that would change the ids of finished runs.
"""

FORMER_VALUES: Final[dict[str, dict[object, object]]] = {"split": {"generated": "ours"}}
"""Values that have another name now, by field: ids keep the former name."""


def identity(config: object) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their frozen default, nested dataclasses as dicts.

    A field that is added later is omitted while it has its own default, so that it does not change the id.
    """
    assert is_dataclass(config)
    content: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            # An empty part is omitted too, so that a new part with defaults only changes no id.
            content |= {field.name: nested} if (nested := identity(value)) else {}
            continue
        # Not before: making and checking the default of each part takes most of the time.
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if value != FROZEN_DEFAULTS.get(field.name, default):
            content[field.name] = _former(field.name, value)
    return content


def _former(name: str, value: Any) -> Any:  # noqa: ANN401 - the value of any field
    if isinstance(value, dict):  # overrides, by the names of fields
        return {key: _former(key, entry) for key, entry in value.items()}
    renamed = FORMER_VALUES.get(name)
    return renamed.get(value, value) if renamed else value


def hash_of(content: object) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the JSON of any object that msgspec can encode."""
    # Sorted keys: the order of a dataclass's fields may change. 64 bits make a collision among a few thousand
    # runs negligible, and keep file names short.
    text = json.dumps(msgspec.to_builtins(content), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
