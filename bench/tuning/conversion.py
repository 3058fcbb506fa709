"""Conversion of Optuna's trials to records."""

from typing import Final

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from bench.tuning.records import TrialRecord

STATES: Final = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def records(study: Study) -> list[TrialRecord]:
    """Return all trials of a study, in order of their numbers."""
    # Called every second and only read: a deep copy of all trials is not needed.
    trials = study.get_trials(deepcopy=False)
    # Optuna stores with a retry the number of the failed trial; the reason of the failed trial names the retry.
    retried = {trial.system_attrs.get("failed_trial"): trial.number for trial in trials}
    return [_record(trial, retried.get(trial.number)) for trial in trials]


def _record(trial: FrozenTrial, retry: int | None) -> TrialRecord:
    noted, state = trial.user_attrs, STATES[trial.state]
    reason = noted.get("reason") if state in {"pruned", "failed"} else None
    # A worker that reports a failure stores a reason. Optuna, which fails a trial without heartbeat, stores none.
    gone = state == "failed" and reason is None
    if gone:
        reason = "the worker died without reporting" + (f"; retried as trial {retry}" if retry else "")
    return TrialRecord(
        number=trial.number,
        state=state,  # type: ignore[arg-type]
        is_default=noted.get("default", False),
        # Until it starts, the values of a queued trial are in ``fixed_params``.
        hyperparameters=trial.params or trial.system_attrs.get("fixed_params", {}),
        # Optuna's value of a pruned trial is its last intermediate score.
        val_top1_accuracy=trial.value if state == "complete" else None,
        fraction=noted.get("fraction", 0.0),
        reason=reason,
        gone=gone,
        retry_of=trial.system_attrs.get("failed_trial"),
        tmacs=noted.get("tmacs", 0.0),
        planned_tmacs=noted.get("planned_tmacs", 0.0),
        train_time_s=noted.get("train_time_s", 0.0),
        trial_time_s=noted.get("trial_time_s", 0.0),
        machine=noted.get("machine"),
    )
