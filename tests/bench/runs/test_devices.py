"""Each job has a CUDA device of its own: real worker processes, on stand-ins for the devices."""

import logging
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bench import harness
from bench.cli.arguments import RunAllArgs
from bench.cli.search.sweep import Tuned, tuned_tasks
from bench.recipes import RECIPES
from bench.records.locks import training_lock
from bench.runs import local
from bench.runs.plan import Task, record_file
from bench.tuning import study
from bench.tuning.records import SweepBudget
from bench.tuning.search import SweepTask
from imgcls.devices import visible_devices
from imgcls.errors import ConfigError
from tests.helpers.gpus import Machine, usable_by_torch
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

WORKER = "tests.helpers.device_worker"


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put ``WORKER`` in the place of the workers of runs and studies; return the folder of what they saw."""
    folder = tmp_path / "seen"
    folder.mkdir()
    monkeypatch.setenv("SEEN", str(folder))
    monkeypatch.setattr(local, "WORKER", WORKER)
    monkeypatch.setattr(study, "WORKER", WORKER)
    return folder


def devices(folder: Path) -> list[str]:
    return sorted(path.read_text() for path in folder.iterdir())


def plan(data: Path, results: Path, *, number: int, device: str = "cuda") -> list[Task]:
    recipe = RECIPES["quick"]("test_efficientnet")
    train, loader = replace(recipe.train, epochs=1, device=device), replace(recipe.loader, image_size=32)
    configs = [replace(recipe, seed=seed, train=train, loader=loader) for seed in range(number)]
    planner = harness.planner(configs, data=str(data), weights="none", results=results)
    return [planner(config) for config in configs]


def cuda(patch: pytest.MonkeyPatch, *, number: int, visible: str | None) -> None:
    Machine(visible=number).install(patch)
    usable_by_torch(patch)
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        patch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("number", "visible", "names"),
    [
        (2, None, ("0", "1")),
        (2, "3, GPU-8a", ("3", "GPU-8a")),
        (1, "5,9,2", ("5",)),  # there is no 9
        (1, "MIG-a,MIG-b", ("MIG-a", "MIG-b")),  # CUDA shows a process one slice only
        (0, "", ()),
        (0, "-1", ()),
    ],
)
def test_devices_are_named_as_the_variable_does(
    number: int, visible: str | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(monkeypatch, number=number, visible=visible)
    assert visible_devices() == names


def test_each_trial_process_has_its_own_device(
    seen: Path, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(monkeypatch, number=2, visible="2,GPU-8a")
    monkeypatch.setenv("TOGETHER", "2")
    (task,) = plan(make_folder({"cat": 5, "dog": 5}), tmp_path / "results", number=1)
    sweep = SweepTask(task=task, name="pets", url="", space={}, budget=SweepBudget(trials=1))
    study.processes(sweep, lambda: 0, jobs=2)
    assert devices(seen) == ["2", "GPU-8a"]


def test_each_run_has_its_own_device(
    seen: Path,
    make_folder: MakeFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cuda(monkeypatch, number=2, visible=None)
    monkeypatch.setenv("TOGETHER", "2")
    caplog.set_level(logging.INFO)
    data = make_folder({"cat": 5, "dog": 5})
    tasks = plan(data, tmp_path / "results", number=3)
    assert [record.run_id for record in local.train_here(tasks[:2], jobs=2)] == [task.run_id for task in tasks[:2]]
    assert devices(seen) == ["0", "1"]
    assert "share" not in caplog.text
    for file in seen.iterdir():
        file.unlink()
    monkeypatch.setenv("TOGETHER", "3")
    local.train_here(tasks, jobs=3)
    assert devices(seen) == ["0", "0", "1"]
    assert "3 jobs at a time on 2 CUDA device(s): some share one, and its memory" in caplog.text


def test_nothing_is_set_without_devices(
    seen: Path, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("TOGETHER", "1")
    # On a CPU, runs come one after the other, whatever the devices of the machine.
    Machine(visible=2).install(monkeypatch)
    local.train_here(plan(make_folder({"cat": 5, "dog": 5}), tmp_path / "results", number=2, device="cpu"), jobs=2)
    assert devices(seen) == ["unset", "unset"]


def test_interrupt_ends_all_runs_and_fails_none(
    seen: Path, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda(monkeypatch, number=2, visible=None)
    monkeypatch.setenv("TOGETHER", "99")  # the workers end only if they are ended
    tasks = plan(make_folder({"cat": 5, "dog": 5}), tmp_path / "results", number=3)

    def interrupt() -> None:
        until(lambda: len(devices(seen)) == 2, what="two runs")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        local.train_here(tasks, jobs=2)
    assert len(devices(seen)) == 2, "no run was begun after the interrupt"
    assert not any(record_file(task).exists() for task in tasks)
    for task in tasks:
        with training_lock(task.paths.results, task.train_id):
            pass


def test_jobs_of_runs_need_gpus(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args, planner = RunAllArgs(jobs=2), pytest.fail
    data = make_folder({"cat": 5, "dog": 5})
    tasks = plan(data, tmp_path / "results", number=1, device="cpu")
    with pytest.raises(ConfigError, match="--jobs 2: runs are trained one at a time on a CPU; use --launcher ray"):
        tuned_tasks(args, tasks, planner, launcher=None)
    cuda(monkeypatch, number=2, visible=None)
    tasks = plan(data, tmp_path / "results", number=1)
    assert tuned_tasks(args, tasks, planner, launcher=None) == Tuned(tasks=[])
