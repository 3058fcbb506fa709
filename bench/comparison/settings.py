"""Settings and names of the rows of a table: distinct for every row, and complete in what differs from the recipe."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from bench.config import OF_THE_TABLE
from bench.records.schema import RunRecord


def settings_of(rows: Mapping[str, RunRecord]) -> dict[str, tuple[str, ...]]:
    """Return what differs from the recipe in each row of a table, by row id, distinct for all rows of a model.

    Rows of the same setting are distinguished by the first of study, weights, device and threads, and row id in which
    they differ.
    """
    # Named only if it distinguishes rows, to keep the cell short.
    recipes = {record.base.recipe for record in rows.values()}
    settings = {row_id: _setting(record, name_recipe=len(recipes) > 1) for row_id, record in rows.items()}
    for detail in DETAILS:
        alike: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for row_id, setting in settings.items():
            alike[rows[row_id].config.model, setting].append(row_id)
        for row_ids in alike.values():
            details = {row_id: detail(rows[row_id], row_id) for row_id in row_ids}
            if len(set(details.values())) > 1:
                settings |= {row_id: (*settings[row_id], details[row_id]) for row_id in row_ids}
    return settings


def names_of(models: Mapping[str, str], settings: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return a name for each row: the model, followed by the parts of the setting that not all its rows share."""
    names = {}
    for row_id, model in models.items():
        others = [set(settings[other]) for other, name in models.items() if name == model]
        parts = [part for part in settings[row_id] if part not in set.intersection(*others)]
        names[row_id] = f"{model} ({', '.join(parts)})" if parts else model
    return names


def _setting(record: RunRecord, *, name_recipe: bool) -> tuple[str, ...]:
    if record.ensemble is not None:
        return record.ensemble.rule, " + ".join(record.ensemble.candidates)
    # The overrides of ``base``: the values that a study chose would fill the cell, and the table of studies shows them.
    parts = [f"recipe={record.base.recipe}"] if name_recipe else []
    parts += ["tuned"] if record.tuning else []
    parts += [f"{name}={value}" for name, value in record.base.overrides.items() if name not in OF_THE_TABLE]
    # Recipes start from pre-trained weights, and the main table has no column for initialisation.
    if record.init == "random":
        parts.append("weights=random")
    elif record.outcome and record.outcome.model.weights_tag not in record.outcome.model.timm_name:
        parts.append(f"weights={record.outcome.model.weights_tag}")
    return tuple(parts)


def _study(record: RunRecord, _row_id: str) -> str:
    return f"study={record.tuning.study}" if record.tuning else "study=none"


def _weights(record: RunRecord, _row_id: str) -> str:
    sha256 = record.outcome.model.weights_sha256 if record.outcome else None
    return f"weights={(sha256 or 'unknown')[:8]}"


def _where(record: RunRecord, _row_id: str) -> str:
    train = record.config.train
    return f"device={train.device}, train_threads={train.train_threads}"


def _id(_record: RunRecord, row_id: str) -> str:
    return f"row={row_id[:8]}"


DETAILS: Final = (_study, _weights, _where, _id)
"""Further details that distinguish rows of the same setting, in order of preference; the last one is unique."""
