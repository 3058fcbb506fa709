"""Output that nobody reads, or that cannot be written: one line at most, and an exit status."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from bench.cli.main import main
from tests.helpers import examples
from tests.helpers.commands import ROOT

COMMANDS = [("--help",), ("data",), ("leaderboard",), ("recommend",)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    labels = np.arange(200) % 2
    for model, share in (("first", 0.9), ("second", 0.6)):
        right = np.arange(200) < share * 200
        predictions = examples.predictions_of(right, labels, classes=2)
        examples.keep(tmp_path, model, predictions, examples.data_of(labels, ("cat", "dog")))
    return tmp_path


def arguments(command: tuple[str, ...], results: Path) -> list[str]:
    return [*command, *(("--results", str(results)) if command[0] in {"leaderboard", "recommend"} else ())]


def run(command: tuple[str, ...], results: Path, output: IO[str]) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "bench", *arguments(command, results)]
    return subprocess.run(line, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_closed_pipe_ends_the_command(command: tuple[str, ...], results: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # before anything is written, as ``| head -0`` does
    with os.fdopen(writing, "w") as output:
        done = run(command, results, output)
    assert done.returncode == 141, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["0<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["--help", "leaderboard", "verify"])
def test_closed_streams_are_no_error(closed: str, command: str, results: Path) -> None:
    flags = f"--results {results}" if command != "--help" else ""
    line = f"{sys.executable} -m bench {command} {flags} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_full_device_is_one_line(command: tuple[str, ...], results: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(command, results, full)
    assert done.returncode == 2
    assert done.stderr == "error: cannot be written: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("command", ["leaderboard", "report"])
def test_tables_on_a_full_disk_are_one_line(
    command: str, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main([command, "--results", str(results)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "No space left on device" in error
    assert not list(results.rglob("*.partial"))
