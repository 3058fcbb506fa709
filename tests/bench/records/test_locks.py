"""Locks of the machine: real processes that train or measure."""

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT

HOLDER = """
import logging, signal, sys, time
from bench.records import locks

lock, name = getattr(locks, sys.argv[1]), sys.argv[2]
hold_s, times = float(sys.argv[3]), int(sys.argv[4])
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

    def start(self, lock: str, name: str, *, hold_s: float, times: int = 1) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, lock, name, str(hold_s), str(times)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "TMPDIR": str(self.folder)},
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
