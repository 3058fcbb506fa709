"""Faults of servers that others provide: a worker of a Ray cluster, and the PostgreSQL server of a study."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.tuning.records import read_study
from tests.faults.disks import NotPossibleError
from tests.faults.subjects import ROOT, TRIALS, new_home, traceback_in
from tests.helpers.postgresql import INSTALLED, Server

RAY_TEST = "tests/bench/runs/test_ray.py"


def ray_worker(folder: Path, rng: random.Random) -> Iterator[str]:
    """Kill a worker in a training on a Ray cluster: the run continues there, with the same result to the bit."""
    del rng
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", RAY_TEST, "-k", "killed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"{RAY_TEST}: {done.stdout.strip().splitlines()[-1]}"


def postgresql(folder: Path, rng: random.Random) -> Iterator[str]:
    """Kill the server of a study and start it again; the study has its trials after a repetition of the command."""
    if not INSTALLED:
        message = "no PostgreSQL server is installed"
        raise NotPossibleError(message)
    home = new_home(folder / "home")
    with Server() as server:
        command = (*home.sweep, "--storage", server.url)
        process = home.start(*command)
        killer = threading.Thread(target=lambda: (time.sleep(rng.uniform(3, 12)), server.kill()))
        killer.start()
        output, _ = process.communicate()
        killer.join()
        server.start()
        yield from traceback_in(output)
        status, output = home.run(*command)
        if status != 0:
            yield f"the repeated command ended with {status}: {output.strip()[-300:]}"
            return
        (file,) = (home.results / "sweeps").glob("*.json")
        ended = sum(trial.state in {"complete", "pruned"} for trial in read_study(file).trials)
        if ended != TRIALS:
            yield f"{ended} trials of {TRIALS}"
