"""What a person sees of a study that runs: a live table on a terminal, a line a trial elsewhere."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.leaderboard.cells import hyperparameters_text
from bench.tuning.records import ENDED, SweepBudget, TrialRecord, best_trial

ROWS_SHOWN: Final = 20

Update = Callable[[Sequence[TrialRecord]], None]


def score_text(trial: TrialRecord) -> str:
    """Return a finished trial's score in percent, or how another one stands."""
    if trial.val_top1_accuracy is not None:
        return f"{100 * trial.val_top1_accuracy:.2f} %"
    return f"at {100 * trial.fraction:.0f} % of its steps" if trial.fraction else ""


def left_s(budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> float | None:
    """Guess the seconds left from what the ended trials took; None before the first has ended."""
    ended = [trial for trial in trials if trial.state in ENDED]
    took = sum(trial.trial_time_s for trial in ended)
    counted = sum(trial.state != "failed" for trial in ended)
    used = ((budget.trials, counted), (budget.minutes, took / 60), (budget.tmacs, sum(trial.tmacs for trial in ended)))
    shares = [value / limit for limit, value in used if limit]
    if not any(shares) or not took:
        return None
    return max(0.0, took * (1 / max(shares) - 1) / jobs)


def _left_text(budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> str:
    left = left_s(budget, trials, jobs)
    if left is None:
        return "time left not known yet"
    minutes, seconds = divmod(round(left), 60)
    return f"about {minutes}:{seconds:02d} left"


@contextlib.contextmanager
def watching(console: Console, name: str, budget: SweepBudget, jobs: int) -> Iterator[Update]:
    """Show the trials of a study as they come."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2, transient=True) as live:
            yield lambda trials: live.update(_table(name, budget, trials, jobs))
        return
    seen: set[int] = set()

    def update(trials: Sequence[TrialRecord]) -> None:
        for trial in trials:
            if trial.state in ENDED and trial.number not in seen:
                seen.add(trial.number)
                console.print(_line(trial, trials, _left_text(budget, trials, jobs)), markup=False)

    yield update


def _line(trial: TrialRecord, trials: Sequence[TrialRecord], left: str) -> str:
    what = f"{trial.state} {score_text(trial)}".strip()
    why = f" ({trial.reason})" if trial.reason else ""
    tried = hyperparameters_text(trial.hyperparameters)
    return f"  trial {trial.number}: {tried}: {what}{why}; {_best_text(trials)}; {left}"


def _best_text(trials: Sequence[TrialRecord]) -> str:
    best = best_trial(trials)
    return f"best so far {score_text(best)} (trial {best.number})" if best else "none finished yet"


def _table(name: str, budget: SweepBudget, trials: Sequence[TrialRecord], jobs: int) -> Table:
    table = Table("Trial", "State", "Hyperparameters", "Val top-1", "Seconds", "Why", title=f"{name}: {budget}")
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
