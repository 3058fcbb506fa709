"""Runs on several devices: the processes of one run, which fail, are killed, and are resumed."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from bench import harness
from bench.config import with_overrides
from bench.recipes import RECIPES
from bench.runs import local
from bench.runs.plan import Task
from imgcls.config import Norm
from imgcls.training.checkpoints import STATE_FILE
from tests.helpers.commands import bench_here, without_processes
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

LIMIT_S = 60
ROOT = Path(__file__).parents[3]
RANK_1 = """
import os
if os.environ.get("RANK") == "1":
    import imgcls.training.losses as losses
    def lacking(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    losses.training_loss = lacking
"""


def plan(data: Path, results: Path, *, devices: int, epochs: int, norm: Norm = "batch") -> Task:
    values = {"epochs": epochs, "image_size": 32, "precision": "fp32", "norm": norm, "devices": devices}
    config = with_overrides(RECIPES["standard"]("test_resnet"), {**values, "device": "cpu"})
    return harness.planner([config], data=str(data), weights="none", results=results)(config)


def ranks_of_this_process() -> list[psutil.Process]:
    """Return the processes of the training that this process carries out, in order of their ranks."""
    ranks = {}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            environment = child.environ()
            if "RANK" in environment and "bench.runs.worker" in child.cmdline():
                ranks[int(environment["RANK"])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_run_whose_process_is_killed_fails_at_once_and_is_resumed_by_another_number(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    data, results = make_folder({"cat": 60, "dog": 60}), tmp_path / "results"
    task = plan(data, results, devices=2, epochs=60, norm="frozen")
    killed: list[tuple[float, list[psutil.Process]]] = []

    def kill_the_second() -> None:
        until(lambda: list(results.rglob(STATE_FILE)), what="a checkpoint")
        processes = ranks_of_this_process()
        processes[1].send_signal(signal.SIGKILL)
        killed.append((time.monotonic(), processes))

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    (failed,) = local.train_here([task])
    killer.join()
    ((began, processes),) = killed
    until(lambda: not any(map(lives, processes)), what="the end of all", within_s=LIMIT_S + began - time.monotonic())
    assert failed.status == "failed"
    assert "the process was killed by signal 9" in (failed.error or "")
    assert failed.config.train.devices == 2
    alone = plan(data, results, devices=1, epochs=60, norm="frozen")
    assert alone.train_id == task.train_id
    with without_processes():
        (record,) = local.train_here([alone])
    training = record.finished.training
    assert len(training.history) == 60
    assert len(training.resumed_from) == 1


def test_process_that_lacks_memory_names_the_remedy(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RANK_1)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    task = plan(make_folder({"cat": 20, "dog": 20}), tmp_path / "results", devices=2, epochs=1)
    (record,) = local.train_here([task])
    assert "OutOfMemoryError: out of memory in training with 32 images of 32 px at once; a smaller" in str(record.error)


def test_run_of_two_processes_is_recorded_once_with_its_devices(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    data, results = make_folder({"cat": 60, "dog": 60}), tmp_path / "results"
    task = plan(data, results, devices=2, epochs=2)
    (record,) = local.train_here([task])
    assert record.config.train.devices == 2
    assert [epoch.images for epoch in record.finished.training.history] == [96, 96]
    assert caplog.text.count("epoch 2/2") == 1
    _, output = bench_here("leaderboard", "--results", str(tmp_path / "results"))
    assert "norm=batch" in output
    assert "norm=batch per process" in (tmp_path / "results" / "leaderboard.md").read_text(encoding="utf-8")
    # With statistics of each process's images it is another training.
    assert plan(data, results, devices=1, epochs=2).train_id != task.train_id


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "99"], "--devices 99: there are"),
        (["--devices", "2", "--batch-size", "3"], "--devices 2: a batch of 3 has fewer than 2 images for each; use"),
        (["--devices", "0"], "--devices is 0; use 1 or more, or auto"),
        (["--devices", "2", "--tune-trials", "2"], "--devices 2: a trial trains on one device; use 1, and several job"),
        (["--devices", "2", "--jobs", "2"], "--jobs 2: each training has --devices 2; use 1 job"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(
    flags: list[str], message: str, make_folder: MakeFolder, tmp_path: Path
) -> None:
    data, results = make_folder({"cat": 20, "dog": 20}), tmp_path / "results"
    model = ["--models", "test_resnet", "--weights", "none", "--recipe", "standard", "--image-size", "32"]
    where = ["--data", str(data), "--results", str(results), "--device", "cpu", "--precision", "fp32"]
    status, output = bench_here("run-all", *where, *model, *flags)
    assert status == 2
    assert message in " ".join(output.split())
    assert not list(results.rglob("*.json"))
