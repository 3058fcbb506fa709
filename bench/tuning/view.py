"""Progress event of a study: a table on a terminal, and elsewhere a line for each trial that has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from bench.leaderboard.cells import hyperparameters_text
from bench.progress import clock_text
from bench.tuning.records import ENDED, SweepBudget, TrialRecord, best_trial

ROWS_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyProgress:
    """All trials of a study so far; ``new`` are the numbers of those that have ended since the last event."""

    name: str
    budget: SweepBudget
    trials: tuple[TrialRecord, ...]
    jobs: int
    new: tuple[int, ...]

    def __str__(self) -> str:
        """Return a line for each trial in ``new``."""
        left = _left_text(self.budget, self.trials, self.jobs)
        return "\n".join(_line(trial, self.trials, left) for trial in self.trials if trial.number in self.new)

    def __rich__(self) -> Table:
        """Return the last trials as a table."""
        return _table(self.name, self.budget, self.trials, self.jobs)

    @property
    def ended(self) -> bool:
        """Whether the drawing can be removed: never, as it stays until the next line is printed."""
        return False


def score_text(trial: TrialRecord) -> str:
    """Return the score of a finished trial in per cent, or the progress of another one."""
    if trial.val_top1_accuracy is not None:
        return f"{100 * trial.val_top1_accuracy:.2f} %"
    return f"at {100 * trial.fraction:.0f} % of its steps" if trial.fraction else ""


def left_s(budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> float | None:
    """Estimate the seconds left from the time of the ended trials; None before the first has ended."""
    # Failed trials cost time, but do not count as trials of the budget, as in ``search.spent``.
    ended = [trial for trial in trials if trial.state in ENDED]
    took = sum(trial.trial_time_s for trial in ended)
    counted = sum(trial.state != "failed" for trial in ended)
    used = ((budget.trials, counted), (budget.minutes, took / 60), (budget.tmacs, sum(trial.tmacs for trial in ended)))
    # The limit of which the largest share is used will be the first one to be reached.
    shares = [value / limit for limit, value in used if limit]
    if not any(shares) or not took:
        return None
    return max(0.0, took * (1 / max(shares) - 1) / jobs)


def _left_text(budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> str:
    left = left_s(budget, trials, jobs)
    if left is None:
        return "time left unknown"
    return f"about {clock_text(left)} left"


def _line(trial: TrialRecord, trials: Sequence[TrialRecord], left: str) -> str:
    what = f"{trial.state} {score_text(trial)}".strip()
    why = f" ({trial.reason})" if trial.reason else ""
    tried = hyperparameters_text(trial.hyperparameters)
    return f"  trial {trial.number}: {tried}: {what}{why}; {_best_text(trials)}; {left}"


def _best_text(trials: Sequence[TrialRecord]) -> str:
    best = best_trial(trials)
    return f"best so far {score_text(best)} (trial {best.number})" if best else "none finished yet"


def _table(name: str, budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> Table:
    table = Table("Trial", "State", "Hyperparameters", "Val top-1", "Seconds", "Reason", title=f"{name}: {budget}")
    table.caption = f"{_best_text(trials)}; {_left_text(budget, trials, jobs)}"
    for trial in trials[-ROWS_SHOWN:]:
        seconds = f"{trial.trial_time_s:.0f}" if trial.trial_time_s else ""
        table.add_row(
            str(trial.number),
            trial.state,
            hyperparameters_text(trial.hyperparameters),
            score_text(trial),
            seconds,
            trial.reason or "",
        )
    return table
