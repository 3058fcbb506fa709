"""Settings, names and looks of the rows of a table: distinct for every row, complete in what differs from the recipe.

In every chart, the colour of a row means the family of its model, and the shape of its mark the kind of its setting.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from bench.config import of_the_table
from bench.records.schema import RunRecord

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
"""Okabe and Ito's colours, which colour-blind people distinguish; without yellow, which is too light on white."""

Kind = Literal["default", "tuned", "head", "ensemble"]


def kind_of(record: RunRecord) -> Kind:
    """Return the kind of a run's setting: an ensemble, tuned by a study, with frozen features, or none of these."""
    if record.ensemble is not None:
        return "ensemble"
    if record.tuning is not None:
        return "tuned"
    return "head" if record.base.train.tune_layers == "head" else "default"


def colours_of(models: Sequence[str]) -> dict[str, str]:
    """Return the colour of each model: that of its family, in order of the first model; of many, some share one."""
    families = list(dict.fromkeys(map(family_of, models)))
    return {model: COLOURS[families.index(family_of(model)) % len(COLOURS)] for model in models}


def family_of(model: str) -> str:
    """Return the family of a timm model: the letters at the beginning of its name, without a prefix of the weights."""
    match = re.match(r"(?:tf_|hf_)?([a-z]+)", model)
    return match[1] if match else model


Settings = dict[str, tuple[str, ...]]
"""What differs from the recipe in each row, by row id."""


def described(rows: Mapping[str, RunRecord]) -> tuple[Settings, dict[str, str]]:
    """Return the settings and the names of the rows of a table, from a record of each, by row id.

    Settings are distinct for all rows of a model: rows that are alike are distinguished by the first of study, weights,
    version of the augmentation, device and threads, and row id in which they differ. A name is the model, followed by
    the parts of the setting that not all its rows share.
    """
    # Named only if it distinguishes rows, to keep the cell short.
    name_recipe = len({record.base.recipe for record in rows.values()}) > 1
    models = {row_id: record.config.model for row_id, record in rows.items()}
    trained = {row_id: record for row_id, record in rows.items() if record.ensemble is None}
    settings = {row_id: _setting(record, name_recipe=name_recipe) for row_id, record in trained.items()}
    settings = _distinct(trained, settings)
    # Those of ensembles hold the names of other rows.
    names = _names(models, settings)
    made = {row_id: record for row_id, record in rows.items() if record.ensemble is not None}
    settings |= _distinct(made, {row_id: _made(record, names) for row_id, record in made.items()})
    return settings, _names(models, settings)


def _distinct(rows: Mapping[str, RunRecord], settings: Settings) -> Settings:
    for detail in DETAILS:
        alike: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for row_id, setting in settings.items():
            alike[rows[row_id].config.model, setting].append(row_id)
        for row_ids in alike.values():
            details = {row_id: detail(rows[row_id], row_id) for row_id in row_ids}
            if len(set(details.values())) > 1:
                settings = settings | {row_id: (*settings[row_id], details[row_id]) for row_id in row_ids}
    return settings


def _names(models: Mapping[str, str], settings: Settings) -> dict[str, str]:
    names = {}
    for row_id, setting in settings.items():
        others = [set(settings[other]) for other in settings if models[other] == models[row_id]]
        parts = [part for part in setting if part not in set.intersection(*others)]
        names[row_id] = f"{models[row_id]} ({', '.join(parts)})" if parts else models[row_id]
    return names


def _made(record: RunRecord, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the setting of an ensemble: its rule, and its candidates by their names in this table."""
    ensemble = record.ensemble
    assert ensemble is not None
    ids = ensemble.candidate_ids or ("",) * len(ensemble.candidates)
    candidates = [names.get(row_id, name) for row_id, name in zip(ids, ensemble.candidates, strict=True)]
    return ensemble.rule, " + ".join(sorted(candidates))


def _setting(record: RunRecord, *, name_recipe: bool) -> tuple[str, ...]:
    # The overrides of ``base``: the values that a study chose would fill the cell, and the table of studies shows them.
    parts = [f"recipe={record.base.recipe}"] if name_recipe else []
    parts += ["tuned"] if record.tuning else []
    shared = of_the_table(record.base.budget)
    parts += [f"{name}={value}" for name, value in record.base.overrides.items() if name not in shared]
    # Recipes fit linear heads; a classifier of another kind is another procedure.
    if (
        record.base.train.tune_layers != "all"
        and record.outcome
        and record.outcome.training.classifier_fit == "gradient"
    ):
        parts.append("classifier_fit=gradient")
    parts += ["norm=batch per process"] if record.base.train.norms_per_process else []
    if (weights := weights_part(record)) is not None:
        parts.append(weights)
    return tuple(parts)


def weights_part(record: RunRecord) -> str | None:
    """Return the part of a setting that names initial weights other than the pre-trained ones of the model's name."""
    if record.init == "random":
        return "weights=random"
    if record.outcome and record.outcome.model.weights_tag != record.outcome.model.timm_name.partition(".")[2]:
        return f"weights={record.outcome.model.weights_tag}"
    return None


def _study(record: RunRecord, _row_id: str) -> str:
    return f"study={record.tuning.study}" if record.tuning else "study=none"


def _weights(record: RunRecord, _row_id: str) -> str:
    sha256 = record.outcome.model.weights_sha256 if record.outcome else None
    return f"weights={(sha256 or 'unknown')[:8]}"


def _where(record: RunRecord, _row_id: str) -> str:
    train = record.config.train
    devices = f", devices={train.devices}" if train.devices != 1 else ""
    return f"device={train.device}, train_threads={train.train_threads}{devices}"


def _augmentation(record: RunRecord, _row_id: str) -> str:
    return f"augmentation_version={record.config.augmentation_version}"


def _id(_record: RunRecord, row_id: str) -> str:
    return f"row={row_id[:8]}"


DETAILS: Final = (_study, _weights, _augmentation, _where, _id)
"""Further details that distinguish rows of the same setting, in order of preference; the last one is unique."""
