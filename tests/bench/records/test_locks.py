"""Locks of the machine: real processes that train or measure."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.records import locks, machine, paths
from imgcls.errors import ConfigError
from tests.helpers.commands import ROOT

HOLDER = """
import logging, os, signal, sys, time
from bench.records import locks

lock, name = getattr(locks, sys.argv[1]), sys.argv[2]
hold_s, times = float(sys.argv[3]), int(sys.argv[4])
user = int(sys.argv[5])
if user:
    os.umask(0o077)
    os.setuid(user)  # here, because others may not be able to read Python's files
signal.signal(signal.SIGINT, signal.default_int_handler)  # a script in the background ignores Ctrl-C for its children
logging.basicConfig(stream=sys.stdout, level="INFO", format=name + " %(message)s")
for _ in range(times):
    with lock():
        print(name, "holds", flush=True)
        time.sleep(hold_s)
        print(name, "ends", flush=True)
"""


class Processes:
    """Processes that hold the locks in a temporary folder, and the lines that they print, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: dict[str, subprocess.Popen[str]] = {}
        self.readers: list[threading.Thread] = []
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []

    def start(self, lock: str, name: str, *, hold_s: float, times: int = 1, user: int = 0) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, lock, name, str(hold_s), str(times), str(user)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "IMGCLS_LOCKS": str(self.folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started[name] = process
        self.readers.append(threading.Thread(target=self._read, args=(process,), daemon=True))
        self.readers[-1].start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.lines.put(line.strip())

    def end(self) -> None:
        for process in self.started.values():
            process.kill()
            process.wait()
        for reader in self.readers:
            reader.join()

    def until(self, start: str, *, within_s: float = 120.0) -> None:
        """Wait for a line with this start."""
        deadline = time.monotonic() + within_s
        while not any(line.startswith(start) for line in self.said):
            try:
                self.said.append(self.lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                pytest.fail(f"not within {within_s} s: {start!r}; so far: {self.said}")

    def order(self, *events: str) -> list[str]:
        return sorted(events, key=self.said.index)


NOBODY = 65534
as_root = pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root can be another user")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


def test_later_training_waits_for_measurement(processes: Processes) -> None:
    processes.start("machine_shared", "first", hold_s=600)
    processes.until("first holds")
    processes.start("machine_alone", "measurement", hold_s=0.5)
    processes.until("measurement waiting to measure: other runs are active")
    processes.start("machine_shared", "later", hold_s=0)
    processes.until("later waiting to train: a latency measurement is next")
    assert "measurement holds" not in processes.said
    processes.started["first"].kill()
    processes.until("later holds")
    events = ["measurement holds", "measurement ends", "later holds"]
    assert processes.order(*events) == events


def test_second_measurement_precedes_trainings(processes: Processes) -> None:
    processes.start("machine_alone", "first", hold_s=600)
    processes.until("first holds")
    processes.start("machine_alone", "second", hold_s=0.1)
    processes.until("second waiting to measure")
    trainings = [f"training {number}" for number in range(8)]
    for name in trainings:
        processes.start("machine_shared", name, hold_s=0.5)
    for name in trainings:
        processes.until(f"{name} waiting to train")
    processes.started["first"].kill()
    for name in trainings:
        processes.until(f"{name} holds")
    assert processes.order("second holds", *(f"{name} holds" for name in trainings))[0] == "second holds"


def test_measurement_is_not_starved(processes: Processes) -> None:
    # For a minute in turn, and with unequal durations, so that they hardly ever wait at the same time.
    processes.start("machine_shared", "odd", hold_s=0.6, times=100)
    processes.until("odd holds")
    processes.start("machine_shared", "even", hold_s=0.7, times=100)
    processes.until("even holds")
    processes.start("machine_alone", "measurement", hold_s=0.1)
    processes.until("measurement waiting to measure")
    processes.until("measurement holds")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_stopped_measurement_blocks_nothing(processes: Processes, number: int) -> None:
    processes.start("machine_shared", "first", hold_s=600)
    processes.until("first holds")
    processes.start("machine_alone", "measurement", hold_s=0)
    processes.until("measurement waiting to measure")
    processes.start("machine_shared", "later", hold_s=0)
    processes.until("later waiting to train")
    processes.started["measurement"].send_signal(number)
    processes.until("later holds")
    assert processes.started["first"].poll() is None


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which every user may create files, as in /run/lock."""
    folder = Path(tempfile.mkdtemp(dir="/run/lock" if Path("/run/lock").is_dir() else "/tmp"))  # noqa: S108
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


ANOTHER_USER = """
import os, platform, sys, tempfile
from pathlib import Path
from bench.records import locks, paths
from imgcls.errors import ConfigError

# What these import when they are called, because others may not be able to read Python's files.
with tempfile.TemporaryDirectory() as warm:
    paths.check_writable(Path(warm))
    paths.check_writable(Path(warm))
    with locks.training_lock(Path(warm), "a"), locks.record_lock(Path(warm), "b"):
        (Path(warm) / f"x.{platform.node()}-1.partial").touch()
    paths.remove_abandoned(Path(warm))
os.umask(0o002)
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    paths.check_writable(Path(sys.argv[1]))
    with locks.training_lock(Path(sys.argv[1]), "a"), locks.record_lock(Path(sys.argv[1]), "b"):
        print("locked")
except ConfigError as error:
    print(error.message)
"""


@as_root
@pytest.mark.parametrize(
    ("mode", "umask", "says"),
    [
        (0o2775, 0o002, "locked\n"),
        (0o755, 0o002, "cannot be written (Permission denied)"),
        (0o2775, 0o022, "cannot be written (Permission denied)"),
    ],
)
def test_results_of_another_user(mode: int, umask: int, says: str, shared: Path) -> None:
    """Those of a common group work with umask 002; others are refused."""
    results = shared / "results"
    results.mkdir()
    os.chown(results, 0, NOBODY)
    results.chmod(mode)
    before = os.umask(umask)
    try:
        (results / "records").mkdir()
        paths.check_writable(results)
        with locks.training_lock(results, "a"), locks.record_lock(results, "b"):
            pass
    finally:
        os.umask(before)
    command = [sys.executable, "-c", ANOTHER_USER, str(results), str(NOBODY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert says in done.stdout


@as_root
@pytest.mark.parametrize("first", [0, NOBODY])
def test_another_user_waits_for_the_measurement(first: int, shared: Path) -> None:
    """Whoever made the files of the locks, with a umask that hides files from others."""
    processes = Processes(shared)
    second = NOBODY - first
    try:
        processes.start("machine_alone", "measurement", hold_s=600, user=first)
        processes.until("measurement holds")
        processes.start("machine_shared", "training", hold_s=0, user=second)
        processes.until("training waiting to train: a latency measurement is running")
        processes.started["measurement"].kill()
        processes.until("training holds")
    finally:
        processes.end()
    assert processes.order("measurement holds", "training holds")[0] == "measurement holds"


def test_lock_does_not_depend_on_the_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGCLS_LOCKS")
    before = machine.lock_folder()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert machine.lock_folder() == before
    assert before in machine.SHARED_FOLDERS


@pytest.mark.parametrize("stranger", ["link", "folder missing"])
def test_lock_file_that_cannot_be_used_is_one_line(
    stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, victim = tmp_path / "locks", tmp_path / "victim"
    victim.write_text("content")
    if stranger != "folder missing":
        folder.mkdir()
    if stranger == "link":
        (folder / locks.QUEUE_LOCK).symlink_to(victim)
    monkeypatch.setenv("IMGCLS_LOCKS", str(folder))
    with pytest.raises(ConfigError, match="the lock of this machine cannot be used") as refused, locks.machine_alone():
        pass
    assert "IMGCLS_LOCKS" in str(refused.value)
    assert victim.read_text() == "content"
