"""Upgrades of records of older schema versions; ``bench.records.schema`` lists what each version changed."""

from typing import Any, Final

import msgspec

from bench.config import OF_THE_MACHINE, PARTS, Budget, RunConfig
from bench.recipes import OWN_EPOCHS, OWN_SIZES, RECIPES

Content = dict[str, Any]

VERDICTS: Final[dict[str, Content]] = {
    "VALID": {"status": "ok", "validity": "valid", "protocol": "full"},
    "NOISY": {"status": "ok", "validity": "noisy", "protocol": "full"},
    "INVALID": {"status": "ok", "validity": "invalid", "protocol": "full"},
    "quick: 1 round": {"status": "ok", "protocol": "quick"},
    "failed": {"status": "failed"},
    "not measured": {"status": "not measured"},
}
"""Fields of version 5 that replace the single verdict of versions up to 4."""


def upgrade_record(content: Content) -> Content:
    """Return the content of a record of version 1 to 4 as one of version 5, with its version and ids unchanged.

    Fields that a version did not have get their defaults. Raises ValueError for an unknown recipe.
    """
    # The ids stay, because the artifacts and predictions are stored under them.
    latency = {
        "environment": content["environment"],
        "measurements": [_measurement(row) for row in content.get("measurements", ())],
        "checks": content.get("checks", ()),
    }
    upgraded = content | {"config": upgrade_config(content["config"])}
    if tuning := content.get("tuning"):
        upgraded["tuning"] = upgrade_tuning(tuning)
    # Up to version 4 a record held the measurements of one machine, that of its environment.
    if latency["measurements"] or latency["checks"]:
        upgraded["latency"] = {content["environment"]["machine"]: latency}
    return upgraded


def upgrade_tuning(tuning: Content) -> Content:
    """Return the content of a record's ``tuning`` with the names of version 5."""
    return tuning | {"base": upgrade_config(tuning["base"]), "hyperparameters": tuning["knobs"]}


def upgrade_study(content: Content) -> Content:
    """Return the content of a study of version 1 as one of version 2."""
    trials = [trial | {"hyperparameters": trial["knobs"]} for trial in content["trials"]]
    return content | {"base": upgrade_config(content["base"]), "trials": trials}


def upgrade_config(content: Content) -> Content:
    """Return the content of a config with the budget and overrides that version 5 stores.

    Raises ValueError for an unknown recipe.
    """
    config = msgspec.convert(content, RunConfig)
    if config.recipe not in RECIPES:
        message = f"unknown recipe {config.recipe!r}; known: {', '.join(RECIPES)}"
        raise ValueError(message)
    own = RECIPES[config.recipe](config.model)
    overrides = {
        name: getattr(getattr(config, part), name)
        for part in PARTS
        # Fields that a version did not have are not compared with a recipe that has changed since.
        for name in content.get(part, {})
        if name not in OF_THE_MACHINE and getattr(getattr(config, part), name) != getattr(getattr(own, part), name)
    }
    return content | {"budget": msgspec.to_builtins(_budget(config, own)), "overrides": overrides}


def _budget(config: RunConfig, own: RunConfig) -> Budget:
    """Return the budget: a value equal to the recipe's own counts as set by the recipe's rule."""
    # Whether such a value had been given on the command line was not recorded.
    by_epochs = config.recipe in OWN_EPOCHS and config.train.epochs == own.train.epochs
    by_size = config.recipe in OWN_SIZES and config.loader.image_size == own.loader.image_size
    return Budget(
        amount=None if by_epochs else config.train.epochs,
        image_size=None if by_size else config.loader.image_size,
        crop=config.loader.crop,
        rule=config.recipe if by_epochs or by_size else None,
    )


def _measurement(row: Content) -> Content:
    word = VERDICTS[row["verdict"]]
    return (
        row
        | {"protocol": "quick" if row["protocol_version"] == 1 else "full"}
        | word
        # Sessions had no id; rows of one session share the time at which it began.
        | {"session_id": row.get("measured_at")}
    )
