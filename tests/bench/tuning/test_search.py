"""Studies with simulated trials: their number and order, failures, kills, and the weights that are kept."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from bench import harness
from bench.recipes import RECIPES
from bench.runs.plan import Task
from bench.tuning import search, storage
from bench.tuning.conversion import records
from bench.tuning.objective import RUNGS, Fitted, OnProgress, TrialProgress, rungs_for
from bench.tuning.records import StudyRecord, SweepBudget, TrialRecord, best_trial
from bench.tuning.search import SweepTask, work
from bench.tuning.space import DEFAULT_SPACE, Space, parse_space
from bench.tuning.storage import open_storage
from bench.tuning.study import finish, plan_study
from imgcls.errors import ConfigError, RunError
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

Score = Callable[[Task], float]


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setattr(search, "gmacs_of", lambda _spec, _classes: 1.0)
    monkeypatch.setattr(search, "POLL_S", 0.1)
    storage.quiet()
    recipe = RECIPES["standard"]("test_efficientnet")
    # Not "auto", which is measured in a process of its own: seconds for each test.
    train = replace(recipe.train, precision="fp32")
    config = replace(recipe, train=train, loader=replace(recipe.loader, image_size=32))
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)


def study(task: Task, trials: int | None = 8, **changes: object) -> SweepTask:
    """Join the study of a task."""
    budget = SweepBudget(trials=trials)
    url = storage.default_url(task.paths.results)
    store = open_storage(url)
    space = parse_space(DEFAULT_SPACE, task.config)
    joined = plan_study(task, space, budget, url=url, store=store, force_new=False)
    return replace(joined, **changes)


def ends(score: Score) -> search.Evaluate:
    """Return a trial that reports its score at both rungs and then completes."""

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        value = score(task)
        for fraction in RUNGS:
            at = TrialProgress(
                fraction=fraction,
                val_top1_accuracy=value,
                at_rung=True,
                images=int(80 * fraction),
                train_time_s=fraction,
            )
            if on_progress(at):
                return fitted("pruned", reason="behind", images=at.images)
        return fitted("complete", score=value, images=80)

    return evaluate


def fitted(ended: str, *, score: float | None = None, reason: str | None = None, images: int = 0) -> Fitted:
    state = {} if ended == "complete" else None
    return Fitted(
        ended=ended,  # type: ignore[arg-type]
        reason=reason,
        val_top1_accuracy=score,
        images=images,
        train_time_s=1.0,
        state=state,
    )


def by_lr(task: Task) -> float:
    return 1 / (1 + abs(task.config.train.lr - 3e-3))


def done(whole: SweepTask, evaluate: search.Evaluate) -> list[TrialRecord]:
    store = open_storage(whole.url)
    work(whole, store, evaluate)
    return records(optuna.load_study(study_name=whole.name, storage=store))


def test_first_trial_is_the_default_unpruned(task: Task) -> None:
    seen: list[Task] = []

    def worst_first(tried: Task) -> float:
        seen.append(tried)
        return 0.0 if len(seen) == 1 else 0.5 + len(seen) / 100

    trials = done(study(task), ends(worst_first))
    assert seen[0].config == task.config
    assert trials[0].is_default
    assert trials[0].state == "complete"
    assert all(other.config.train.schedule == "cosine" for other in seen[1:])
    assert not any(trial.is_default for trial in trials[1:])


def test_worse_trial_is_pruned_at_a_rung(task: Task) -> None:
    values = iter([0.9, 0.1, 0.95, 0.2])
    trials = done(study(task, 4), ends(lambda _task: next(values)))
    assert [trial.state for trial in trials] == ["complete", "pruned", "complete", "pruned"]
    assert [trial.fraction for trial in trials] == [0.5, 0.25, 0.5, 0.25]
    assert trials[1].tmacs == pytest.approx(3 * 1e9 * 20 / 1e12)
    assert trials[1].reason == "behind"


def test_workers_complete_the_requested_trials(task: Task) -> None:
    whole = study(task, 13)
    errors: list[BaseException] = []

    def worker() -> None:
        try:
            work(whole, open_storage(whole.url), ends(by_lr))
        except BaseException as error:  # noqa: BLE001 - checked in the main thread
            errors.append(error)

    workers = [threading.Thread(target=worker) for _ in range(4)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not errors
    trials = records(optuna.load_study(study_name=whole.name, storage=open_storage(whole.url)))
    assert len(trials) == 13
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


def test_resumed_study_has_the_same_trials(task: Task, tmp_path: Path) -> None:
    whole = done(study(task, 14), ends(by_lr))
    other = replace(task, paths=replace(task.paths, results=tmp_path / "other"))
    done(study(other, 5), ends(by_lr))
    parts = done(study(other, 14), ends(by_lr))
    assert [trial.hyperparameters for trial in parts] == [trial.hyperparameters for trial in whole]
    assert len({tuple(trial.hyperparameters.values()) for trial in parts}) == 14


def test_diverged_trial_is_pruned_with_a_reason(task: Task) -> None:
    def evaluate(tried: Task, on_progress: OnProgress) -> Fitted:
        number = int(tried.train_id.split("-")[-1])
        if number in {1, 2}:
            ended = ("diverged", "out of memory")[number - 1]
            return fitted(ended, reason=f"{ended} it was", images=7)
        return ends(by_lr)(tried, on_progress)

    trials = done(study(task, 5), evaluate)
    assert [(trial.state, trial.reason) for trial in trials[1:3]] == [
        ("pruned", "diverged it was"),
        ("pruned", "out of memory it was"),
    ]
    assert len(trials) == 5


def test_failed_trial_does_not_count(task: Task) -> None:
    def evaluate(tried: Task, on_progress: OnProgress) -> Fitted:
        if tried.train_id.endswith("00001"):
            message = "the disk is full"
            raise OSError(message)
        return ends(by_lr)(tried, on_progress)

    trials = done(study(task, 4), evaluate)
    assert [trial.state == "failed" for trial in trials] == [False, True, False, False, False]
    assert trials[1].reason == "OSError: the disk is full"


def test_three_failures_in_a_row_end_the_sweep(task: Task) -> None:
    def evaluate(_tried: Task, _on_progress: OnProgress) -> Fitted:
        message = "nothing works"
        raise OSError(message)

    with pytest.raises(RunError, match="3 trials failed in a row; the last: OSError: nothing works"):
        done(study(task), evaluate)
    mended = done(study(task, 4), ends(by_lr))
    assert [trial.state == "failed" for trial in mended] == [True] * 3 + [False] * 4


@pytest.mark.parametrize(("budget", "count"), [(SweepBudget(tmacs=0.6), 3), (SweepBudget(minutes=1e-9), 1)])
def test_compute_or_time_budget_ends_the_study(task: Task, budget: SweepBudget, count: int) -> None:
    values = iter(range(1, 9))  # increasing, so that none is pruned; each costs 0.24 TMACs
    assert len(done(study(task, None, budget=budget), ends(lambda _task: next(values) / 10))) == count


def abandoned(whole: SweepTask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a running trial, as a killed process does, that soon counts as stale."""
    monkeypatch.setattr(storage, "GRACE_S", 2)
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    store = open_storage(whole.url)

    class _KilledError(BaseException):
        pass

    def killed(_tried: Task, _on_progress: OnProgress) -> Fitted:
        raise _KilledError

    with pytest.raises(_KilledError):
        work(whole, store, killed)


def test_killed_trial_is_retried_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(task, 5)
    abandoned(whole, monkeypatch)
    places: list[str] = []

    def evaluate(tried: Task, on_progress: OnProgress) -> Fitted:
        places.append(tried.train_id)
        return ends(by_lr)(tried, on_progress)

    trials = done(whole, evaluate)
    assert trials[0].state == "failed"
    assert trials[0].gone
    (again,) = [trial for trial in trials if trial.retry_of == 0]
    assert again.hyperparameters == trials[0].hyperparameters
    assert again.is_default
    assert trials[0].reason == f"the worker died without reporting; retried as trial {again.number}"
    assert sum(trial.state in {"complete", "pruned"} for trial in trials) == 5
    assert f"{whole.name}.trial-00000" in places


def test_trial_killed_twice_is_not_retried(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study(task, 1)
    abandoned(whole, monkeypatch)
    second = threading.Event()

    class _KilledError(BaseException):
        pass

    def killed_again(tried: Task, on_progress: OnProgress) -> Fitted:
        if not second.is_set():
            second.set()
            raise _KilledError
        return ends(by_lr)(tried, on_progress)

    with pytest.raises(_KilledError):
        work(whole, open_storage(whole.url), killed_again)
    trials = done(whole, killed_again)
    assert [(trial.state, trial.retry_of) for trial in trials] == [("failed", None), ("failed", 0), ("complete", None)]


def test_trials_failed_by_others_are_tolerated(task: Task) -> None:
    """Three in a row do not end the study, unlike failures of the trials themselves."""
    whole = study(task, 4)

    def evaluate(tried: Task, on_progress: OnProgress) -> Fitted:
        number = int(tried.train_id.split("-")[-1])
        if number in {1, 2, 3}:
            store = open_storage(whole.url)
            study_id = store.get_study_id_from_name(whole.name)
            trial_id = store.get_trial_id_from_study_id_trial_number(study_id, number)
            store.set_trial_state_values(trial_id, state=TrialState.FAIL)
        return ends(by_lr)(tried, on_progress)

    trials = done(whole, evaluate)
    assert [trial.state == "failed" for trial in trials] == [False, True, True, True, False, False, False]


def test_concurrent_commands_share_a_new_study(task: Task) -> None:
    names: list[str] = []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        names.append(study(task).name)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == ["test_efficientnet-pets-standard"] * 4
    store = open_storage(storage.default_url(task.paths.results))
    (only,) = optuna.get_all_study_summaries(store)
    assert only.n_trials == 1


def test_different_study_needs_force_new(task: Task) -> None:
    url, budget = storage.default_url(task.paths.results), SweepBudget(trials=3)
    first = study(task)
    wider = parse_space(["lr=1e-6:1e-1", "dropout"], task.config)

    def join(task: Task, space: Space, *, force_new: bool) -> str:
        return plan_study(task, space, budget, url=url, store=open_storage(url), force_new=force_new).name

    with pytest.raises(ConfigError, match="differs in search space; --force-new starts a new study beside it"):
        join(task, wider, force_new=False)
    other_data = replace(task, dataset=replace(task.dataset, digest="0" * 16))
    with pytest.raises(ConfigError, match="differs in data set;"):
        join(other_data, first.space, force_new=False)
    assert join(task, wider, force_new=True) == f"{first.name}-2"
    assert join(task, wider, force_new=False) == f"{first.name}-2"
    assert join(task, first.space, force_new=False) == first.name
    assert join(other_data, first.space, force_new=True) == f"{first.name}-3"


def test_only_the_best_weights_are_kept(task: Task) -> None:
    values = iter([0.5, 0.6, 0.2, 0.9, 0.7])
    whole = study(task, 5)
    trials = done(whole, ends(lambda _task: next(values)))
    best = best_trial(trials)
    assert best is not None
    kept = list(search.weights_folder(task.paths.results, whole.name).iterdir())
    assert [path.name for path in kept] == [f"trial-{best.number:05d}.safetensors"]
    assert best.number == 3


def test_weights_of_a_best_trial_that_ends_after_its_equals(task: Task) -> None:
    """The first of equal trials is the best one, also if a later one that another worker runs ends before it."""
    whole, second_ended = study(task, trials=2), threading.Event()

    def evaluate(task: Task, on_progress: OnProgress) -> Fitted:
        if task.train_id.endswith("trial-00000"):
            assert second_ended.wait(timeout=60)
        return ends(lambda _task: 0.5)(task, on_progress)

    threads = [threading.Thread(target=lambda: work(whole, open_storage(whole.url), evaluate)) for _ in range(2)]
    for thread in threads:
        thread.start()
    loaded = optuna.load_study(study_name=whole.name, storage=open_storage(whole.url))
    until(lambda: any(trial.state == "complete" for trial in records(loaded)), what="the end of the second trial")
    second_ended.set()
    for thread in threads:
        thread.join()
    best = best_trial(records(loaded))
    assert best is not None
    assert best.number == 0
    kept = [path.name for path in search.weights_folder(task.paths.results, whole.name).iterdir()]
    assert kept == ["trial-00000.safetensors"]


def test_default_wins_a_tie(task: Task) -> None:
    best = best_trial(done(study(task, 4), ends(lambda _task: 0.5)))
    assert best is not None
    assert best.number == 0


@pytest.mark.parametrize(("epochs", "rungs"), [(1, ()), (3, (0.5,)), (4, (0.25, 0.5)), (12, (0.25, 0.5))])
def test_rungs_start_after_one_full_epoch(epochs: int, rungs: tuple[float, ...]) -> None:
    assert rungs_for(epochs) == rungs


def test_idle_command_keeps_the_recorded_cost(task: Task) -> None:
    def finished(trials: int, command_s: float) -> StudyRecord:
        whole = study(task, trials)
        known = {trial.number for trial in records(optuna.load_study(study_name=whole.name, storage=whole.url))}
        ended = known if len(known) > 1 else set()
        return finish(whole, done(whole, ends(by_lr)), jobs=1, before=ended, command_s=command_s)

    first = finished(4, 100.0)
    assert first.command_train_s > 0
    assert finished(4, 3.0) == first
    assert finished(6, 50.0).command_s == 50.0
