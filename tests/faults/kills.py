"""Kills and signals at random moments: the repeated command ends with what an undisturbed one has."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from tests.faults.subjects import (
    SHORT_PROTOCOL,
    Home,
    kill_group,
    new_home,
    orphans,
    records,
    traceback_in,
    undisturbed,
    until_line,
    whole,
    whole_latency,
    whole_study,
)

WINDOW_S: Final = 14.0
"""Kills are drawn uniformly from this time after the start of a command, which takes longer on the machines so far."""

# The second Ctrl-C may reach Python while it ends, when it has its default effect.
INTERRUPTED: Final = {
    signal.SIGINT: {130, -signal.SIGINT},
    signal.SIGTERM: {130},
    signal.SIGHUP: {129, 130, -signal.SIGHUP},
}

Kill = Callable[["subprocess.Popen[str]", Home, random.Random], None]


def _all(process: "subprocess.Popen[str]", _home: Home, _rng: random.Random) -> None:
    kill_group(process)


def _command_only(process: "subprocess.Popen[str]", _home: Home, _rng: random.Random) -> None:
    process.kill()
    process.communicate()


def _one_child(process: "subprocess.Popen[str]", home: Home, rng: random.Random) -> None:
    children = [child for child in home.processes() if child.pid != process.pid]
    if children:
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(children).kill()
    process.communicate()


def _killed(
    home: Home, rng: random.Random, command: tuple[str, ...], how: Kill, module: str = "bench"
) -> Iterator[str]:
    """Start a command, kill it or a part of it, and yield what stays behind."""
    process = home.start(*command, module=module)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=rng.uniform(0, WINDOW_S))
    how(process, home, rng)
    if alive := orphans(home):
        yield f"still running after a kill: {'; '.join(alive)}"


def of_run_all(folder: Path, rng: random.Random, times: int = 5) -> Iterator[str]:
    """Kill ``run-all`` some times, whole or its command alone or a child, and repeat it to its end."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    for _ in range(times):
        yield from _killed(home, rng, home.run_all, rng.choice((_all, _command_only, _one_child)))
    yield from whole(home, expected)


def of_sweep(folder: Path, rng: random.Random, times: int = 5) -> Iterator[str]:
    """Kill ``sweep --jobs 2`` some times, and repeat it to its end."""
    home = new_home(folder / "home")
    for _ in range(times):
        yield from _killed(home, rng, home.sweep, rng.choice((_all, _command_only, _one_child)))
    yield from whole_study(home)


def of_measure(folder: Path, rng: random.Random, times: int = 5) -> Iterator[str]:
    """Kill ``measure`` some times, among its processes the holder of the machine's lock, and repeat it to its end."""
    home = trained(folder)
    for _ in range(times):
        how = rng.choice((_all, _command_only, _one_child))
        yield from _killed(home, rng, home.measure, how, SHORT_PROTOCOL)
    yield from whole_latency(home)


def trained(folder: Path) -> Home:
    """Return a home with the results of ``run_all``."""
    home = new_home(folder / "home")
    undisturbed(folder.parent / "undisturbed")
    shutil.copytree(folder.parent / "undisturbed" / "results", home.results)
    return home


def signals(folder: Path, rng: random.Random) -> Iterator[str]:
    """Send SIGTERM, SIGINT once, SIGINT twice and SIGHUP to ``run-all`` as a terminal does, and repeat it."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    for number, times in ((signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGHUP, 1)):
        process = home.start(*home.run_all)
        # Not before Python's start has ended, which a signal ends with a traceback of the interpreter.
        time.sleep(rng.uniform(3, WINDOW_S))
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(0.3)
        output, _ = process.communicate()
        if process.returncode not in INTERRUPTED[number] | {0}:
            yield f"{number.name}: status {process.returncode}"
        yield from traceback_in(output)
        if alive := orphans(home):
            yield f"still running after {number.name}: {'; '.join(alive)}"
    yield from whole(home, expected)


def stopped_training(folder: Path, rng: random.Random) -> Iterator[str]:
    """Stop all processes of ``run-all`` for a minute (SIGSTOP), and let them go on."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    process = home.start(*home.run_all)
    _stop(home, rng.uniform(4, 10), 60)
    process.communicate()
    yield from whole(home, expected)


def stopped_measurement(folder: Path, rng: random.Random) -> Iterator[str]:
    """Stop a measurement for a minute in the midst of its rounds: no figure of that round's row is valid."""
    home = trained(folder)
    process = home.start(*home.measure, module=SHORT_PROTOCOL)
    until_line(process, "measuring")
    _stop(home, rng.uniform(0, 3), 60)
    output, _ = process.communicate()
    yield from traceback_in(output)
    for record in records(home):
        for latency in record.latency.values():
            for row in latency.measurements:
                longest = max(row.samples_ms, default=0.0)
                if row.protocol == "full" and row.kind != "device" and longest > 30_000 and row.validity != "invalid":
                    yield f"{row.runtime} is {row.validity}, with a query of {longest / 1000:.0f} s"


def _stop(home: Home, after_s: float, for_s: float) -> None:
    time.sleep(after_s)
    stopped = home.processes()
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    time.sleep(for_s)
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
