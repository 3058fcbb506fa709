"""Records of finished studies: JSON files in ``results/sweeps/``, from which ``--tuned`` reads the best setting."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.config import RunConfig
from bench.records.environment import Environment
from bench.records.paths import Paths
from bench.records.reading.history import upgrade_study
from bench.records.schema import DatasetInfo, Tuning
from bench.records.store import read_versioned, write_with_digest
from bench.tuning import space
from bench.tuning.space import Space
from imgcls.errors import ConfigError

# How trials are trained and compared; part of a study's identity, so that one study never mixes versions.
# 1: cosine schedule over a trial's own epochs, scored at its last epoch, rungs at equal fractions of its steps.
REGIME_VERSION: Final = 1

ADDED: Final = frozenset(
    {
        "tune_layers",
        "norm",
        "feature_views",
        "optimizer",
        "layer_decay",
        "warmup",
        "ema",
        "augmentation",
        "precision",
        "micro_batch",
        "no_hflip",
        "imbalance",
        "train_share",
        "budget",
    }
)
"""Fields that older studies did not store in their identity, which must stay the same where they have their default."""

# Version of the file format.
# 1: first. 2: the base has its budget and overrides; ``hyperparameters`` of a trial were called ``knobs`` before.
SWEEP_VERSION: Final = 2

State = Literal["complete", "pruned", "failed", "running", "waiting"]

ENDED: Final = frozenset({"complete", "pruned", "failed"})

Origin = tuple[str, str, str | None]
"""Initialisation of a model: timm name, init, and the sha256 of the weights (None if random)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepBudget:
    """Budget of a study: finished or pruned trials, minutes of trial time, or 1e12 MACs of training; None: no limit."""

    trials: int | None = None
    minutes: float | None = None
    tmacs: float | None = None

    def __str__(self) -> str:
        """Return the limits with their units."""
        parts = ((self.trials, "trials"), (self.minutes, "minutes of trial time"), (self.tmacs, "TMACs of training"))
        return " or ".join(f"{number:g} {unit}" for number, unit in parts if number is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial: its hyperparameters, its cost, val top-1 accuracy if it finished, and the reason if it did not.

    ``fraction`` is the last reported share of its own steps; ``planned_tmacs`` is the compute of all its steps;
    ``gone`` is true if the worker died without reporting. A retry resumes from the last complete epoch of the trial
    ``retry_of``, and its cost excludes what that trial had spent.
    """

    number: int
    state: State
    is_default: bool
    hyperparameters: dict[str, int | float]
    val_top1_accuracy: float | None
    fraction: float
    reason: str | None
    gone: bool
    retry_of: int | None
    tmacs: float
    planned_tmacs: float
    train_time_s: float
    trial_time_s: float
    machine: str | None = None
    """The machine that ran the trial; with a cluster, the machine of the command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """A finished study; ``command_s`` and ``command_train_s`` are the last command's seconds, total and in steps."""

    sweep_version: int
    name: str
    base: RunConfig
    space: Space
    budget: SweepBudget
    dataset: DatasetInfo
    environment: Environment
    origin: Origin
    rungs: tuple[float, ...]
    trials: tuple[TrialRecord, ...]
    jobs: int
    command_s: float
    command_train_s: float

    @property
    def best(self) -> TrialRecord | None:
        """The first finished trial with the highest score; None if no trial finished."""
        return best_trial(self.trials)

    @property
    def default(self) -> TrialRecord | None:
        """The trial of the default setting; None if it did not finish."""
        return next((trial for trial in self.trials if trial.is_default and trial.state == "complete"), None)

    @property
    def tuned_config(self) -> RunConfig:
        """The config of the best trial, of which there must be one."""
        assert self.best is not None
        return config_of(self.base, self.best)

    def count(self, state: State) -> int:
        """Count the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def tuning(self) -> Tuning:
        """Return the part of a tuned run's record that describes this study."""
        best, default = self.best, self.default
        assert best is not None
        assert best.val_top1_accuracy is not None
        return Tuning(
            study=self.name,
            base=self.base,
            hyperparameters=best.hyperparameters,
            trial=best.number,
            trials=len(self.trials),
            pruned=self.count("pruned"),
            failed=self.count("failed"),
            tmacs=sum(trial.tmacs for trial in self.trials),
            trial_time_s=sum(trial.trial_time_s for trial in self.trials),
            val_top1_accuracy=best.val_top1_accuracy,
            default_val_top1_accuracy=default.val_top1_accuracy if default else None,
        )


def config_of(base: RunConfig, trial: TrialRecord) -> RunConfig:
    """Return the config of a trial; for the default setting, the base itself."""
    return base if trial.is_default else space.apply(base, trial.hyperparameters)


def best_trial(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the first of the finished trials with the highest score; None if there is none."""
    return max((trial for trial in trials if trial.state == "complete"), key=rank_of, default=None)


def rank_of(trial: TrialRecord) -> tuple[float, int]:
    """Return what finished trials are ordered by, the best last: their score, and of equal ones the first is better."""
    # The first, so that the default setting is kept unless another one is better. With several workers it may be the
    # last to end.
    return trial.val_top1_accuracy or 0.0, -trial.number


def identity(base: RunConfig, search: Space, dataset: DatasetInfo, origin: Origin) -> dict[str, Any]:
    """Return what must be equal for trials to belong to one study."""
    # Without device, threads and precision, which each machine chooses for itself: several may join one study.
    where = replace(base.train, device="auto", train_threads=0, precision="fp32")
    parts: list[object] = [_content(part) for part in (base.split, base.loader, base.architecture, where)]
    parts += [base.augmentation_version] if base.augmentation_version > 1 else []
    content = {
        "code's sweep version": REGIME_VERSION,
        "data set": dataset.digest,
        "split": dataset.split_digest,
        "search space": search,
        "seed": base.seed,
        "weights": origin,
        "settings": [base.model, base.recipe, *parts],
    }
    # As plain JSON types: one side of a comparison has been read back from the storage, where tuples are lists.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content))
    return plain


def _content(part: object) -> dict[str, Any]:
    """Return the fields of a config, without those of ``ADDED`` that have their default."""
    assert is_dataclass(part)
    return {
        field.name: getattr(part, field.name)
        for field in fields(part)
        if field.name not in ADDED or getattr(part, field.name) != field.default
    }


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return the names of what differs between two identities."""
    return [name for name in ours if ours[name] != theirs.get(name)]


def study_file(results: Path, name: str) -> Path:
    """Return the file of a study's record."""
    return Paths(results=results).study(name)


def write_study(study: StudyRecord, results: Path) -> None:
    """Write the record of a finished study atomically, in this version even if an older one was read."""
    write_with_digest(replace(study, sweep_version=SWEEP_VERSION), study_file(results, study.name))


def read_study(path: Path) -> StudyRecord:
    """Read the record of a study; raises ValueError if it is damaged or of an unknown version."""
    return read_versioned(path, StudyRecord, key="sweep_version", version=SWEEP_VERSION, upgrade=upgrade_study)


def base_name(base: RunConfig) -> str:
    """Return the name of a study, without a number: model, data set and recipe."""
    return f"{base.model}-{base.dataset}-{base.recipe}"


def tuned_by(results: Path, base: RunConfig, dataset: DatasetInfo, origin: Origin) -> StudyRecord:
    """Return the finished study of this model, data, recipe and settings, of any seed; of several, the best on val.

    Raises ConfigError if there is none; its message lists the studies that do not match, and why.
    """
    studies, reasons = [], []
    for path in sorted(Paths(results=results).sweeps.glob(f"{base_name(base)}*.json")):
        try:
            study = read_study(path)
        except (OSError, ValueError) as error:
            reasons.append(f"{path.stem}: {error}")
            continue
        # With the study's own seed and space: a setting may be used with other seeds, whatever the search space was.
        other = differences(
            identity(replace(base, seed=study.base.seed), study.space, dataset, origin),
            identity(study.base, study.space, study.dataset, study.origin),
        )
        if other:
            reasons.append(f"{path.stem} differs in {', '.join(other)}")
        elif study.best is None:
            reasons.append(f"{path.stem}: no trial finished")
        else:
            studies.append(study)
    if studies:
        return max(studies, key=lambda study: study.best.val_top1_accuracy or 0.0 if study.best else 0.0)
    why = f"; not used: {'; '.join(reasons)}" if reasons else ""
    message = (
        f"--tuned: no finished study of {base.model} on {base.dataset}, recipe {base.recipe}{why}; run sweep first"
    )
    raise ConfigError(message)
