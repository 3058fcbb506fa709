"""What a study leaves behind: a JSON file in ``results/sweeps/``, from which ``--tuned`` takes its setting."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.config import RunConfig
from bench.records.environment import Environment
from bench.records.history import upgrade_study
from bench.records.paths import Paths
from bench.records.schema import DatasetInfo, Tuning
from bench.records.store import read_versioned, write_json
from bench.tuning import space
from bench.tuning.space import Space
from imgcls.errors import ConfigError

REGIME_VERSION: Final = 1

# 1: cosine over a trial's own epochs, its last epoch, rungs at equal fractions of its steps.
SWEEP_VERSION: Final = 2

# 1: first. 2: the base has its budget and overrides, a trial has hyperparameters (before: knobs).

State = Literal["complete", "pruned", "failed", "running", "waiting"]

ENDED: Final = frozenset({"complete", "pruned", "failed"})

Origin = tuple[str, str, str | None]
"""What a model starts from: timm name, init, sha256 of the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepBudget:
    """What a study may spend, in trials finished or pruned, minutes of trials, or 1e12 MACs of training."""

    trials: int | None = None
    minutes: float | None = None
    tmacs: float | None = None

    def __str__(self) -> str:
        """Return it in words."""
        parts = ((self.trials, "trials"), (self.minutes, "minutes of trials"), (self.tmacs, "TMACs of training"))
        return " or ".join(f"{number:g} {unit}" for number, unit in parts if number is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial: its hyperparameters, val top-1 accuracy where it came to its end, what it cost and why it stopped.

    ``fraction`` is the share of its own steps that it was seen to have done; ``planned_tmacs`` what all of them
    cost; ``gone``: the worker died without reporting. A retried trial goes on from its last whole epoch, and counts
    only what it did itself.
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
    """The one that carried it out; on a cluster, that asked for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecord:
    """A finished study. ``command_s`` and ``command_train_s`` are the last command's seconds, whole and in steps."""

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
        """The first finished trial with the highest score; none where all were pruned or failed."""
        return best_trial(self.trials)

    @property
    def default(self) -> TrialRecord | None:
        """The trial of the default setting, where it came to its end."""
        return next((trial for trial in self.trials if trial.is_default and trial.state == "complete"), None)

    @property
    def tuned_config(self) -> RunConfig:
        """The setting of the best trial."""
        assert self.best is not None
        return config_of(self.base, self.best)

    def count(self, state: State) -> int:
        """Count the trials in a state."""
        return sum(trial.state == state for trial in self.trials)

    def tuning(self) -> Tuning:
        """Return what a tuned run's record says of its study."""
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
    """Return the setting of a trial; the default's is the base itself."""
    return base if trial.is_default else space.apply(base, trial.hyperparameters)


def best_trial(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the first of the finished trials with the highest score, so that the default wins a tie."""
    done = [trial for trial in trials if trial.state == "complete"]
    return max(done, key=lambda trial: (trial.val_top1_accuracy or 0.0, -trial.number), default=None)


def identity(base: RunConfig, search: Space, dataset: DatasetInfo, origin: Origin) -> dict[str, Any]:
    """Return what must be equal for trials to belong to one study; where it runs is no part of it."""
    where = replace(base.train, device="auto", train_threads=0)
    content = {
        "code's sweep version": REGIME_VERSION,
        "data set": dataset.digest,
        "split": dataset.split_digest,
        "search space": search,
        "seed": base.seed,
        "weights": origin,
        "settings": [base.model, base.recipe, base.split, base.loader, base.architecture, where],
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(content))
    return plain


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Name what differs between two identities."""
    return [name for name in ours if ours[name] != theirs.get(name)]


def study_file(results: Path, name: str) -> Path:
    """Return the place of a study's record."""
    return Paths(results=results).study(name)


def write_study(study: StudyRecord, results: Path) -> None:
    """Write a finished study, whole or not at all."""
    write_json(study, study_file(results, study.name))


def read_study(path: Path) -> StudyRecord:
    """Read a study; raises ValueError where it is damaged or was made by other code."""
    return read_versioned(path, StudyRecord, key="sweep_version", version=SWEEP_VERSION, upgrade=upgrade_study)


def base_name(base: RunConfig) -> str:
    """Name a study by model, data set and recipe."""
    return f"{base.model}-{base.dataset}-{base.recipe}"


def tuned_by(results: Path, base: RunConfig, dataset: DatasetInfo, origin: Origin) -> StudyRecord:
    """Find the finished study of this model, data, recipe and settings, of any seed; of several, the best on val.

    Raises ConfigError where there is none, with the reason why another one does not do.
    """
    found, reasons = [], []
    for path in sorted(Paths(results=results).sweeps.glob(f"{base_name(base)}*.json")):
        try:
            study = read_study(path)
        except (OSError, ValueError) as error:
            reasons.append(f"{path.stem}: {error}")
            continue
        other = differences(
            identity(replace(base, seed=study.base.seed), study.space, dataset, origin),
            identity(study.base, study.space, study.dataset, study.origin),
        )
        if other:
            reasons.append(f"{path.stem} is of another {', another '.join(other)}")
        elif study.best is None:
            reasons.append(f"{path.stem}: no trial came to its end")
        else:
            found.append(study)
    if found:
        return max(found, key=lambda study: study.best.val_top1_accuracy or 0.0 if study.best else 0.0)
    why = f"; not used: {'; '.join(reasons)}" if reasons else ""
    message = (
        f"--tuned: no finished study of {base.model} on {base.dataset}, recipe {base.recipe}{why}; run sweep first"
    )
    raise ConfigError(message)
