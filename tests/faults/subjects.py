"""What faults are injected into: small commands on few photos, and what must hold after each of them."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import psutil

from bench.records.schema import RunRecord
from bench.records.store import read_records
from bench.tuning.records import read_study
from tests.helpers.images import smooth_image

ROOT: Final = Path(__file__).parent.parent.parent
MARK: Final = "IMGCLS_FAULT"
"""Environment variable by which the processes of a command are found, whatever has become of their parents."""

TINY: Final = ("--recipe", "quick", "--weights", "none", "--image-size", "32", "--train-threads", "1")
RUN: Final = ("--runtimes", "onnxruntime-cpu", "--epochs", "8")
TRIALS: Final = 4
SEEDS: Final = ("0", "1")
SHORT_PROTOCOL: Final = "tests.helpers.short_protocol"
END_S: Final = 600.0
LEFTOVERS: Final = ("*.partial", "*.task.json", "*.former")


@dataclass(frozen=True, kw_only=True)
class Home:
    """A folder with photos, results, a cache and locks of its own; ``variables`` are set for its commands.

    ``root`` is the checkout whose commands are run.
    """

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT

    @property
    def photos(self) -> Path:
        """Two classes of 30 photos."""
        return self.folder / "photos"

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.folder / "results"

    @property
    def cache(self) -> Path:
        """The cache."""
        return self.folder / "cache"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the home's commands."""
        return {
            **os.environ,
            "IMGCLS_CACHE": str(self.cache),
            "IMGCLS_LOCKS": str(self.folder),
            MARK: str(self.folder),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(self.root),
            **self.variables,
        }

    def but(self, **changes: Any) -> "Home":
        """Return the same home with other fields."""
        return replace(self, **changes)

    def start(
        self,
        *arguments: str,
        before: tuple[str, ...] = (),
        module: str = "bench",
        limit: Callable[[], None] | None = None,
    ) -> "subprocess.Popen[str]":
        """Start a command with the results of this home, as the leader of a session."""
        command = (*before, sys.executable, "-m", module, *arguments, "--results", str(self.results))
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509 - one call, without other threads of ours
        )

    def run(self, *arguments: str, **options: Any) -> tuple[int, str]:
        """Run a command to its end; return its exit status and output."""
        process = self.start(*arguments, **options)
        output, _ = process.communicate(timeout=END_S)
        return process.returncode, output

    def processes(self) -> list[psutil.Process]:
        """Return the processes of this home's commands that are running."""
        alive = []
        for process in psutil.process_iter():
            # A zombie has ended, and has no environment any more.
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folder):
                    alive.append(process)
        return alive

    @property
    def run_all(self) -> tuple[str, ...]:
        """Two runs of a tiny network."""
        models = ("--models", "test_efficientnet", "--seeds", *SEEDS)
        return ("run-all", *models, *TINY, *RUN, "--data", str(self.photos))

    @property
    def sweep(self) -> tuple[str, ...]:
        """A study of four trials in two processes."""
        budget = ("--trials", str(TRIALS), "--jobs", "2")
        return ("sweep", "test_efficientnet", *TINY, *budget, "--data", str(self.photos))

    @property
    def measure(self) -> tuple[str, ...]:
        """Latency by a protocol with every part of the full one; its module is ``SHORT_PROTOCOL``."""
        return ("measure", "--runtimes", "onnxruntime-cpu")


def new_home(folder: Path) -> Home:
    """Return a home with photos."""
    home = Home(folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(("cat", "dog")):
        (home.photos / name).mkdir(parents=True, exist_ok=True)
        for number in range(30):
            smooth_image(1000 * label + number).save(home.photos / name / f"{number:03d}.png")
    return home


def weights(home: Home) -> dict[str, str]:
    """Return the SHA-256 of the final weights of each run, by its id."""
    return {record.run_id: _sha256(home, record) for record in records(home) if record.status == "ok"}


def _sha256(home: Home, record: RunRecord) -> str:
    return hashlib.sha256((home.results / "artifacts" / record.train_id / "model.safetensors").read_bytes()).hexdigest()


def records(home: Home) -> list[RunRecord]:
    """Return the records in the results of a home."""
    return read_records(home.results)


@cache
def undisturbed(folder: Path) -> dict[str, str]:
    """Return the weights of ``run_all`` without a fault, which is carried out once in ``folder``."""
    home = new_home(folder)
    status, output = home.run(*home.run_all)
    assert status == 0, output
    return weights(home)


def orphans(home: Home, *, within_s: float = 15.0) -> list[str]:
    """Return the processes that are still there after their command, which had some seconds to end."""
    deadline = time.monotonic() + within_s
    while (alive := home.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    names = []
    for process in alive:
        with contextlib.suppress(psutil.Error):
            names.append(" ".join(process.cmdline())[-80:])
            process.kill()
    return names


def leftovers(home: Home) -> list[str]:
    """Return the temporary files in the results and the cache of a home."""
    return [path.name for root in (home.results, home.cache) for name in LEFTOVERS for path in root.rglob(name)]


def unverified(home: Home) -> str:
    """Return what ``verify`` reports of the results; "" if all agree."""
    status, output = home.run("verify")
    return "" if status == 0 else output[-300:]


def whole(home: Home, expected: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong after ``run_all`` has been repeated to its end."""
    status, output = home.run(*home.run_all)
    if status != 0:
        yield f"the repeated command ended with {status}: {output[-400:]}"
    if weights(home) != expected:
        yield "the weights are not those of the command without a fault"
    yield from _clean(home)


def whole_study(home: Home) -> Iterator[str]:
    """Yield what is wrong after ``sweep`` has been repeated to its end."""
    status, output = home.run(*home.sweep)
    if status != 0:
        yield f"the repeated command ended with {status}: {output[-400:]}"
        return
    (file,) = (home.results / "sweeps").glob("*.json")
    trials = read_study(file).trials
    ended = sum(trial.state in {"complete", "pruned"} for trial in trials)
    if ended != TRIALS:
        yield f"{ended} trials of {TRIALS}"
    if sum(trial.is_default for trial in trials if trial.state == "complete") != 1:
        yield "the default setting was not tried exactly once"
    kept = [path.name for path in (home.results / "artifacts").rglob("trial-*.safetensors")]
    if len(kept) != 1:
        yield f"weights of {len(kept)} trials are kept"
    yield from _clean(home)


def whole_latency(home: Home) -> Iterator[str]:
    """Yield what is wrong after ``measure`` has been repeated to its end."""
    status, output = home.run(*home.measure, module=SHORT_PROTOCOL)
    if status != 0:
        yield f"the repeated command ended with {status}: {output[-400:]}"
    rows = [row for record in records(home) for latency in record.latency.values() for row in latency.measurements]
    if not any(row.protocol == "full" and row.status == "ok" for row in rows):
        yield "no latency by the full protocol was recorded"
    yield from _clean(home)


def _clean(home: Home) -> Iterator[str]:
    if left := leftovers(home):
        yield f"left behind: {', '.join(sorted(set(left)))}"
    if alive := orphans(home):
        yield f"still running: {'; '.join(alive)}"
    if disagreement := unverified(home):
        yield f"verify: {disagreement}"


def until_line(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """Read the output of a command until a line has this text; return the lines."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            break
    return lines


def kill_group(process: "subprocess.Popen[str]") -> None:
    """Send SIGKILL to a command and all its children at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def traceback_in(output: str) -> list[str]:
    """Return a complaint if an output has a traceback: the last one's error, and the line before it."""
    _, found, last = output.rpartition("Traceback (most recent call last)")
    if not found:
        return []
    # The lines of a traceback are indented; its error is the first one after them that is not.
    lines = last.strip().splitlines()[1:]
    end = next((number for number, line in enumerate(lines) if not line.startswith(" ")), len(lines) - 1)
    return [f"a traceback: {' '.join(' '.join(lines[max(end - 2, 0) : end + 1]).split())[:300]}"]
