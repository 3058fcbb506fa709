"""The Optuna study that holds a race: a trial for each candidate with its scores and its state, and the time spent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState, create_trial

from bench.records.ids import hash_of
from bench.runs.plan import Task
from bench.selection.records import Entrant
from bench.selection.schedule import FEATURES_SHARE, PARTS_OF_EPOCHS
from bench.tuning import storage
from imgcls.errors import ConfigError

REGIME_VERSION: Final = 1
"""Version of the rules of a race; a race of another version is not continued."""

IDENTITY, SPENT, SCREENED, FINALS, ENTRANT = "identity", "spent_s", "screened_s", "finals", "entrant"
"""Attributes of the study, and of a trial."""

ENDED: Final = {None: TrialState.COMPLETE, "failed": TrialState.FAIL}
"""States of trials by the reason why their candidates left; all others were pruned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceStudy:
    """A race in a storage; its methods store what a kill must not lose."""

    study: Study
    trials: tuple[int, ...]
    """Optuna's ids of the candidates' trials, by the candidates' numbers."""

    @property
    def name(self) -> str:
        """The name of the study and of the race."""
        return str(self.study.study_name)

    @property
    def spent_s(self) -> float:
        """Seconds that earlier commands have spent."""
        return float(self.study.user_attrs.get(SPENT, 0.0))

    def spend(self, seconds: float) -> None:
        """Store the seconds that the race has taken so far."""
        self.study.set_user_attr(SPENT, round(seconds, 3))

    @property
    def screened_s(self) -> float:
        """Seconds of the race at which its candidates were screened."""
        return float(self.study.user_attrs.get(SCREENED, 0.0))

    def screened(self, seconds: float) -> None:
        """Store the seconds of the race at which its candidates were screened."""
        self.study.set_user_attr(SCREENED, round(seconds, 3))
        self.spend(seconds)

    def finals(self, seeds: int, seconds: float) -> tuple[int, float]:
        """Return the seeds of each finalist and when their runs began, in seconds of the race, as first stored."""
        if FINALS not in self.study.user_attrs:
            self.study.set_user_attr(FINALS, [seeds, round(seconds, 3)])
        stored = self.study.user_attrs[FINALS]
        return int(stored[0]), float(stored[1])

    def entrants(self) -> list[Entrant]:
        """Return the candidates as they were kept; empty before they were screened."""
        kept = [trial.user_attrs.get(ENTRANT) for trial in self.study.get_trials(deepcopy=False)]
        return [] if SCREENED not in self.study.user_attrs else [msgspec.convert(entrant, Entrant) for entrant in kept]

    def keep(self, entrant: Entrant) -> None:
        """Store a candidate: its scores as intermediate values, and its departure as the state of its trial."""
        trial = Trial(self.study, self.trials[entrant.number])
        known = self.study.get_trials(deepcopy=False)[entrant.number]
        if known.state.is_finished():
            return  # it was kept before an interruption
        for scored in entrant.scores:
            if scored.round not in known.intermediate_values:
                trial.report(scored.val_top1_accuracy, step=scored.round)
        trial.set_user_attr(ENTRANT, msgspec.to_builtins(entrant))
        if entrant.left is not None:
            self._end(entrant)

    def complete(self, entrants: Sequence[Entrant]) -> None:
        """End the trials of all candidates: those that have not left are finalists."""
        for entrant, trial in zip(entrants, self.study.get_trials(deepcopy=False), strict=True):
            if not trial.state.is_finished():
                self._end(entrant)

    def _end(self, entrant: Entrant) -> None:
        state = ENDED.get(entrant.left.reason if entrant.left else None, TrialState.PRUNED)
        value = entrant.last.val_top1_accuracy if entrant.last and state == TrialState.COMPLETE else None
        self.study.tell(entrant.number, value, state=state)


def join(store: RDBStorage, tasks: Sequence[Task], *, settings: dict[str, Any]) -> RaceStudy:
    """Return the study of a race, which is created if there is none; ``settings`` are its minutes, limit and so on.

    Its name contains a hash of all that its result depends on, so that other settings make another race.
    """
    first = tasks[0]
    runs = [task.run_id for task in tasks]
    identity = [REGIME_VERSION, FEATURES_SHARE, PARTS_OF_EPOCHS, runs, settings, first.environment.machine]
    name = f"select-{first.dataset.name}-{hash_of(identity)[:8]}"
    with storage.locked(store, name):
        study = optuna.create_study(study_name=name, storage=store, direction="maximize", load_if_exists=True)
        if study.user_attrs.get(IDENTITY, name) != name:
            message = f"study {name} of this storage is not a race; use another storage"
            raise ConfigError(message)
        study.set_user_attr(IDENTITY, name)
        _add_missing(study, tasks)
        return RaceStudy(study=study, trials=tuple(trial._trial_id for trial in study.get_trials(deepcopy=False)))  # noqa: SLF001 - Optuna has no other way to a trial that another process has started


def _add_missing(study: Study, tasks: Sequence[Task]) -> None:
    """Add a running trial for each candidate that has none: the creation of the study may have been interrupted."""
    space: dict[str, BaseDistribution] = {
        "model": CategoricalDistribution(tuple(dict.fromkeys(task.config.model for task in tasks))),
        "image_size": CategoricalDistribution(tuple(dict.fromkeys(task.spec.resize.size for task in tasks))),
    }
    for task in tasks[len(study.get_trials(deepcopy=False)) :]:
        candidate = {"model": task.config.model, "image_size": task.spec.resize.size}
        study.add_trial(create_trial(state=TrialState.RUNNING, params=candidate, distributions=space))
