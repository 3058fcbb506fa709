"""Real trials: they never read the test split, and stop when they are pruned."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import harness
from bench.recipes import RECIPES
from bench.runs import execution
from bench.runs.execution import prepare
from bench.runs.plan import Task
from bench.tuning.objective import RUNGS, TrialProgress, run_trial
from bench.tuning.records import SweepBudget
from bench.tuning.search import SweepTask, evaluate_here
from bench.tuning.space import apply
from imgcls.data.prepared import Prepared
from imgcls.errors import NonFiniteLossError, OutOfMemoryError
from imgcls.training.plan import Training
from tests.helpers.examples import EPOCH
from tests.helpers.images import MakeFolder


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path) -> Task:
    recipe = RECIPES["quick"]("test_efficientnet")
    config = replace(recipe, loader=replace(recipe.loader, image_size=32, batch_size=8))
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)


class Watched(np.ndarray[Any, np.dtype[np.uint8]]):
    """Pixels of which those of the test split cannot be read."""

    forbidden: frozenset[int] = frozenset()

    def __getitem__(self, rows: Any) -> Any:
        read = set(np.arange(len(self))[rows].ravel().tolist())
        assert not read & self.forbidden, "the test split was read"
        return np.asarray(self)[rows]


def watched(task: Task) -> Prepared:
    """Return the data of a task; reading its test split is an error."""
    prepared = prepare(task)
    pixels = np.asarray(prepared.pixels).view(Watched)
    pixels.forbidden = frozenset(prepared.rows["test"])
    return replace(prepared, pixels=pixels)


def test_trial_never_reads_the_test_split(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = watched(task)
    with pytest.raises(AssertionError, match="the test split was read"):
        prepared.pixels[np.array(prepared.rows["test"][:1])]
    source = Prepared.source

    def only_train_and_val(self: Prepared, split: str) -> Any:
        assert split != "test", "the test split was opened"
        return source(self, split)

    monkeypatch.setattr(Prepared, "source", only_train_and_val)
    monkeypatch.setattr("bench.tuning.search.prepare", lambda _task: prepared)
    seen: list[TrialProgress] = []
    whole = SweepTask(task=task, name="pets", url="", space={}, budget=SweepBudget(trials=2))
    for config in (task.config, apply(task.config, {"lr": 1e-3, "epochs": 2})):
        fitted = evaluate_here(whole)(replace(task, config=config), lambda at: bool(seen.append(at)))
        assert fitted.ended == "complete"
    assert {at.at_rung for at in seen} == {True, False}


def test_trial_counts_images_and_leaves_no_files(task: Task) -> None:
    seen: list[TrialProgress] = []
    fitted = run_trial(
        replace(task, config=apply(task.config, {})),
        prepare(task),
        lambda at: bool(seen.append(at)),
        rungs=RUNGS,
    )
    train = sum(task.dataset.counts["train"])
    assert fitted.images == 3 * train
    assert [at.fraction for at in seen if not at.at_rung] == pytest.approx([1 / 3, 2 / 3, 1])
    assert seen[-1].images == fitted.images
    assert fitted.train_time_s > 0
    assert fitted.val_top1_accuracy == seen[-1].val_top1_accuracy
    assert not list((task.paths.results).rglob("*.pt"))


def test_trial_is_scored_at_its_selected_epoch(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    history = tuple(replace(EPOCH, epoch=n, val_top1_accuracy=score) for n, score in enumerate((0.5, 0.9, 0.7), 1))
    trained = Training(history=history, best_epoch=2, steps=3, resumed_from=(), state={})
    monkeypatch.setattr(execution, "fit", lambda *_args, **_kwargs: trained)
    assert run_trial(task, prepare(task), lambda _at: False, rungs=RUNGS).val_top1_accuracy == 0.9


def test_pruned_trial_stops_training(task: Task) -> None:
    fitted = run_trial(replace(task, config=apply(task.config, {})), prepare(task), lambda at: at.at_rung, rungs=RUNGS)
    assert fitted.ended == "pruned"
    assert fitted.state is None
    train = sum(task.dataset.counts["train"])
    assert 3 * train / 4 <= fitted.images + 8 <= 3 * train / 4 + 16


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (NonFiniteLossError("the loss is nan at epoch 1"), "diverged"),
        (OutOfMemoryError("out of memory in a step of 32 images"), "out of memory"),
    ],
)
def test_nan_and_memory_errors_end_the_trial(
    task: Task, monkeypatch: pytest.MonkeyPatch, error: Exception, ended: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(execution, "fit", fails)
    fitted = run_trial(task, prepare(task), lambda _at: False, rungs=RUNGS)
    assert fitted.ended == ended
    assert fitted.reason


def test_other_errors_are_raised(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        message = "size mismatch"
        raise RuntimeError(message)

    monkeypatch.setattr(execution, "fit", fails)
    with pytest.raises(RuntimeError, match="size mismatch"):
        run_trial(task, prepare(task), lambda _at: False, rungs=RUNGS)
