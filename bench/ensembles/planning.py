"""Tasks that combine the networks of finished runs, one for each seed that all rows have."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast

import msgspec
import numpy as np
from scipy.special import softmax

from bench.comparison.analysis import Comparison
from bench.comparison.decisions.sides import rows_named
from bench.comparison.rows import Checkpoint, Row
from bench.ensembles.voting import RULES
from bench.records.environment import Environment
from bench.records.ids import hash_of, identity
from bench.records.paths import PLACE, Paths
from bench.records.schema import Ensemble, Member, ModelInfo, RunRecord
from bench.runs.plan import Task
from imgcls.data.augment import Normalisation
from imgcls.data.decode import Resize
from imgcls.data.sources.file_names import unescape
from imgcls.errors import ConfigError
from imgcls.evaluation.predictions import load_predictions, predictions_file
from imgcls.messages import Setting
from imgcls.models.registry import ModelSpec
from imgcls.models.structure import Structure
from imgcls.models.weights import Weights

NAME = "ensemble"
"""Name of the model of an ensemble's row."""

MEMBERS = 2
"""Minimum number of candidates."""


def choose(names: Sequence[str], comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the rows of one table that names refer to, or without names all rows of the only table.

    Raises ConfigError if a name is unknown, if the rows are of several tables, or if there are fewer than two.
    """
    if not names and len(comparisons) != 1:
        listed = (
            ", ".join(f"{comparison.table.key.dataset} (table {comparison.table.key.id})" for comparison in comparisons)
            or "none"
        )
        message = f"ensemble: the results hold {len(comparisons)} tables: {listed}; choose one by "
        raise ConfigError(message, Setting("table"), " ID")
    candidates = rows_named(names, comparisons) if names else comparisons[0].ordered
    rows = [row for row in candidates if row.checkpoints and row.first.ensemble is None]
    if len({row.row_id for row in rows}) < MEMBERS:
        message = f"ensemble: {len(rows)} row with a score and no ensemble; it needs two or more"
        raise ConfigError(message)
    if folds := next((row.first.config.split.folds for row in rows if row.first.config.split.folds), None):
        message = f"ensemble: rows of {folds} folds have no single network per seed"
        raise ConfigError(message)
    return rows


def tasks_of(rows: Sequence[Row], rule: str, *, paths: Paths, environment: Environment) -> list[Task]:
    """Return the task of each seed that all rows have; raises ConfigError if networks or seeds do not match."""
    if rule not in RULES:
        raise ConfigError(Setting("rule", rule), f": unknown; known: {', '.join(RULES)}")
    # The same network and ids, whatever the order in which the rows are named, or their accuracies at the time.
    rows = sorted(rows, key=lambda row: row.row_id)
    by_seed = [{checkpoint.seed: checkpoint for checkpoint in row.checkpoints} for row in rows]
    seeds = sorted(set.intersection(*(set(checkpoints) for checkpoints in by_seed)))
    if not seeds:
        listed = "; ".join(
            f"{row.name}: {', '.join(map(str, checkpoints))}" for row, checkpoints in zip(rows, by_seed, strict=True)
        )
        message = f"ensemble: no seed that all rows have ({listed})"
        raise ConfigError(message)
    return [
        _task([checkpoints[seed] for checkpoints in by_seed], rows, rule, paths=paths, environment=environment)
        for seed in seeds
    ]


def _task(
    checkpoints: Sequence[Checkpoint], rows: Sequence[Row], rule: str, *, paths: Paths, environment: Environment
) -> Task:
    records, names = [checkpoint.records[0] for checkpoint in checkpoints], tuple(row.name for row in rows)
    _require_artifacts(records, names, paths)
    _require_one_input(records, names)
    val = [load_predictions(predictions_file(paths.artifacts(record.train_id), "val")) for record in records]
    weights = RULES[rule](
        softmax(np.stack([predictions.logits for predictions in val]).astype(np.float64), axis=2), val[0].labels
    )
    ensemble = Ensemble(
        rule=cast("Literal['soft', 'fitted', 'greedy']", rule),
        candidates=names,
        members=tuple(
            Member(run_id=record.run_id, train_id=record.train_id, weight=float(weight))
            for record, weight in zip(records, weights, strict=True)
            if weight > 0
        ),
        candidate_ids=tuple(row.row_id for row in rows),
    )
    first = next(record for record, weight in zip(records, weights, strict=True) if weight > 0)
    config = replace(first.config, model=NAME, overrides={}, seed=checkpoints[0].seed)
    location = msgspec.json.decode((paths.artifacts(first.train_id) / PLACE).read_bytes(), type=dict[str, str])
    return Task(
        # Without the names of rows, which those of other rows may change.
        run_id=hash_of([identity(config), replace(ensemble, candidates=()), environment.machine]),
        train_id=hash_of([ensemble.members, NAME]),
        config=config,
        spec=_spec(first.finished.model, records),
        dataset=first.dataset,
        environment=environment,
        data=unescape(location["data"]),
        labels=unescape(location["labels"]) if "labels" in location else None,
        paths=paths,
        derived_from=tuple(member.run_id for member in ensemble.members),
        ensemble=ensemble,
    )


def _spec(model: ModelInfo, records: Sequence[RunRecord]) -> ModelSpec:
    """Return the specification of an ensemble whose input is that of ``model``."""
    random = any(record.init == "random" for record in records)
    return ModelSpec(
        name=NAME,
        timm_name=NAME,
        weights=Weights(init="random" if random else "pretrained", tag="members", sha256=None, file=None, config={}),
        resize=Resize(size=model.image_size, interpolation=model.interpolation, crop_pct=model.crop_pct),
        normalisation=Normalisation(mean=model.mean, std=model.std),
        has_aux_head=False,
        structure=Structure(options={}, classifier=(), heads=()),
    )


def _require_artifacts(records: Sequence[RunRecord], names: Sequence[str], paths: Paths) -> None:
    for record, name in zip(records, names, strict=True):
        folder = paths.artifacts(record.train_id)
        if not paths.outcome(record.train_id).exists() or not (folder / PLACE).exists():
            message = f"ensemble: the artifacts of {name}, seed {record.config.seed}, are not in this results folder"
            raise ConfigError(message)


def _require_one_input(records: Sequence[RunRecord], names: Sequence[str]) -> None:
    """Raise ConfigError unless all networks read images of the same size, resized in the same way."""
    inputs = {}
    for record, name in zip(records, names, strict=True):
        model = record.finished.model
        crop = "" if model.crop_pct is None else f", crop {model.crop_pct:g}"
        inputs[name] = f"{model.image_size} px, {model.interpolation}{crop}"
    if len(set(inputs.values())) > 1:
        listed = "; ".join(f"{name}: {text}" for name, text in inputs.items())
        message = f"ensemble: the networks read different inputs ({listed}), and have no single ONNX file"
        raise ConfigError(message)
