"""Runs on several devices: the processes of one run, which fail, are killed, and are resumed."""

import contextlib
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from bench.records.schema import RunRecord
from imgcls.training.checkpoints import STATE_FILE
from tests.helpers.commands import bench, start
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

if TYPE_CHECKING:
    import subprocess

LIMIT_S = 60
RANK_1 = """
import os
if os.environ.get("RANK") == "1":
    import imgcls.training.losses as losses
    def lacking(*arguments):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    losses.training_loss = lacking
"""


@pytest.fixture
def arguments(make_folder: MakeFolder, tmp_path: Path) -> list[str]:
    data = make_folder({"cat": 60, "dog": 60})
    model = ["--models", "test_resnet", "--weights", "none", "--recipe", "standard", "--image-size", "32"]
    folders = ["--data", str(data), "--results", str(tmp_path / "results")]
    return ["run-all", *folders, *model, "--precision", "fp32", "--runtimes", "onnxruntime-cpu"]


def record_in(folder: Path) -> RunRecord:
    (file,) = (folder / "results" / "records").rglob("*.json")
    return msgspec.json.decode(file.read_bytes(), type=RunRecord)


def ranks_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Return the processes of a training, in order of their ranks."""
    ranks = {}
    for child in psutil.Process(process.pid).children(recursive=True):
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
    arguments: list[str], tmp_path: Path
) -> None:
    arguments = [*arguments, "--norm", "frozen", "--epochs", "8"]
    command = start(*arguments, "--devices", "2")
    state = until(lambda: list((tmp_path / "results").rglob(STATE_FILE)), what="a checkpoint")
    _, second = ranks_of(command)
    processes = psutil.Process(command.pid).children(recursive=True)
    second.send_signal(signal.SIGKILL)
    began = time.monotonic()
    output, _ = command.communicate(timeout=LIMIT_S)
    until(lambda: not any(map(lives, processes)), what="the end of all", within_s=LIMIT_S + began - time.monotonic())
    assert command.returncode == 1
    assert "the process was killed by signal 9" in output
    failed = record_in(tmp_path)
    assert failed.status == "failed"
    assert failed.config.train.devices == 2
    assert state[0].exists()
    status, output = bench(*arguments, "--devices", "1")
    assert status == 0, output
    record = record_in(tmp_path)
    assert record.outcome is not None
    assert len(record.outcome.training.history) == 8
    assert output.count(": loss ") < 8
    assert "resumed after epoch" in output


def test_process_that_lacks_memory_names_the_remedy(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(RANK_1)
    status, output = bench(*arguments, "--devices", "2", environment={"PYTHONPATH": str(tmp_path)})
    assert status == 1
    assert "OutOfMemoryError: out of memory in training with 32 images of 32 px at once; a smaller" in output
    assert "OutOfMemoryError" in (record_in(tmp_path).error or "")


def test_run_of_two_processes_is_recorded_once_with_its_devices(arguments: list[str], tmp_path: Path) -> None:
    status, output = bench(*arguments, "--devices", "2", "--epochs", "2")
    assert status == 0, output
    assert output.count("epoch 2/2") == 1
    record = record_in(tmp_path)
    assert record.outcome is not None
    assert record.config.train.devices == 2
    assert [epoch.images for epoch in record.outcome.training.history] == [96, 96]
    board = (tmp_path / "results" / "leaderboard.md").read_text(encoding="utf-8")
    assert "norm=batch per process" in board


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "99"], "--devices 99: there are"),
        (["--devices", "2", "--batch-size", "3"], "--devices 2: a batch of 3 has fewer than 2 images for each; use"),
        (["--devices", "0"], "--devices is 0; use 1 or more, or auto"),
        (["--devices", "2", "--tune-trials", "2"], "--devices 2: a trial trains on one device; use 1, and several job"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(
    flags: list[str], message: str, arguments: list[str], tmp_path: Path
) -> None:
    status, output = bench(*arguments, *flags)
    assert status == 2
    assert message in output.splitlines()[-1]
    assert not list((tmp_path / "results").rglob("*.json"))
