"""The session of ``nox -s gpu``, rehearsed: every check on the CPU, with a tiny model and stand-ins for the GPU.

It shows that the script itself does not fail on the day; what a GPU does, it cannot show.
"""

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
import torch

from bench.cli import run
from tests.benchmarks import gpu, gpu_checks
from tests.helpers.commands import bench, bench_here
from tests.helpers.gpus import Event, Machine
from tests.helpers.images import MakeFolder
from tests.helpers.short_protocol import SHORT_FULL


def in_this_process(*arguments: str, **environment: str) -> tuple[int, str]:
    # The run that was killed in another process, without stand-ins, must be repeated in one.
    if any(argument.endswith("killed") for argument in arguments):
        return bench(*arguments, environment=environment)
    return bench_here(*arguments, environment=environment)


@pytest.fixture
def subject(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu_checks.Subject:
    machine = Machine()

    def first_tensor(*arguments: int, **options: object) -> torch.Tensor:
        machine.pids[:] = [os.getpid()]
        return torch.zeros(*arguments, **options)  # type: ignore[call-overload,no-any-return]

    machine.install(monkeypatch)
    monkeypatch.setattr(gpu_checks, "torch", SimpleNamespace(zeros=first_tensor))
    monkeypatch.setattr("torch.cuda.synchronize", lambda *_: None)
    monkeypatch.setattr("torch.cuda._sleep", lambda _cycles: None)
    monkeypatch.setattr("torch.cuda.Event", lambda **_: Event(time.perf_counter))
    monkeypatch.setattr(run, "FULL", replace(SHORT_FULL, rounds=3, duration_s=0.3, batch_sizes=(128,), files=False))
    monkeypatch.setattr(gpu_checks, "bench", in_this_process)
    data = make_folder({"cat": 20, "dog": 20})
    return gpu_checks.Subject(
        folder=tmp_path / "out",
        device="cpu",
        models=("test_efficientnet",),
        flags=("--weights", "none", "--data", str(data), "--recipe", "quick", "--image-size", "32"),
        epochs=1,
        long_epochs=15,
        kill_after_s=0.0,
        px=32,
        batch_sizes=(4, 8),
        runtimes=("pytorch-cpu", "onnxruntime-cpu"),
    )


@pytest.mark.rehearsal
def test_the_session_runs_from_start_to_end(subject: gpu_checks.Subject) -> None:
    subject.folder.mkdir()
    verdicts = {verdict.check: verdict for verdict in gpu.check(subject)}
    assert list(verdicts) == list(gpu.CHECKS)
    told = [verdict.observed for verdict in verdicts.values()]
    assert not [observed for observed in told if re.match(r"\w+(Error|Exception): ", observed)]
    # A CPU has no peak memory of a GPU, no fraction of memory, and no compiled row here; a busy one no valid latency.
    passed = [check for check, verdict in verdicts.items() if verdict.passed]
    assert {
        "NVML counts this process once it has a context",
        "a killed run resumes, and leaves no process",
        "a second process makes the rounds invalid",
        "a hidden device is refused, or warned about",
    } <= set(passed)
    stored = msgspec.json.decode((subject.folder / "gpu.json").read_bytes(), type=gpu.Session)
    assert stored.verdicts == list(verdicts.values())
    table = (subject.folder / "gpu.md").read_text()
    assert "on NVIDIA H200, driver 580.65.06" in table
    assert table.count("\n| ") == 1 + len(gpu.CHECKS)


def test_finished_checks_are_not_repeated(subject: gpu_checks.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    subject.folder.mkdir()
    done: list[str] = []

    def checked(name: str) -> tuple[bool, str]:
        done.append(name)
        if name == "b" and done.count("b") == 1:
            raise KeyboardInterrupt
        return True, name

    monkeypatch.setattr(gpu, "CHECKS", {name: lambda _subject, name=name: checked(name) for name in "abc"})
    with pytest.raises(KeyboardInterrupt):
        gpu.check(subject)
    assert [verdict.observed for verdict in gpu.check(subject)] == ["a", "b", "c"]
    assert done == ["a", "b", "b", "c"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_without_a_device_the_session_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", str(tmp_path / "out")])
    assert gpu.main() == 0
    assert capsys.readouterr().out == "nothing to check: no CUDA device\n"
    assert not (tmp_path / "out").exists()
