"""Two versions of this code at once: their trees, their trainings, and a process of each that answers requests."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from bench.processes.starting import STEADY_MEMORY
from imgcls.errors import ConfigError

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PROBE: Final = Path(__file__).with_name("probe.py")
MODEL: Final = "test_efficientnet"
TRAINING: Final = ("--weights", "none", "--epochs", "6", "--train-threads", "1", "--runtimes", "onnxruntime-cpu")
"""After 6 epochs two seeds never differ significantly (15 pairs of seeds: least p 0.5; after 3 epochs: 0.003)."""


class TrainingFailedError(Exception):
    """A version's own training gave no good record; the text is the end of what it printed."""


Probe = subprocess.Popen[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A tree of code, and a folder that holds all it writes: cache, results, temporary files."""

    name: str
    tree: Path
    home: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a version's own training on the embedded set left: its record, and predicted and true classes of test."""

    record: dict[str, Any]
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]
    predicted: tuple[int, ...]
    onnx: Path

    @property
    def operators(self) -> list[str]:
        """Operator type of every node."""
        return [node.op_type for node in onnx.load(self.onnx).graph.node]


def check_revision(revision: str) -> None:
    """Raise ConfigError for a revision that git does not know."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        message = f"--base {revision}: no such revision here; give a branch, a tag or a commit that git has"
        raise ConfigError(message)


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Lay out a revision's files in a folder for as long as it is needed; raises ConfigError for an unknown one."""
    check_revision(revision)
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


@contextlib.contextmanager
def snapshot() -> Iterator[Path]:
    """Copy the working tree to a path as long as a worktree's: a process's memory is laid out by its paths' lengths."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file() and not name.startswith("results/"):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        yield tree


def environment(version: Version) -> dict[str, str]:
    """Return variables under which a process imports this version's packages and shares nothing with the other's.

    Locks of its own also keep the training from waiting for other runs: its latencies are not used.
    """
    temporary = version.home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return os.environ | {
        "PYTHONPATH": str(version.tree),
        "PYTHONHASHSEED": "0",
        "IMGCLS_CACHE": str(version.home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(temporary),
        "IMGCLS_LOCKS": str(temporary),
        "OMP_NUM_THREADS": "1",
        # glibc adapts to what was freed before: otherwise two processes of one version differ by half in page faults.
        **STEADY_MEMORY,
    }


def train(version: Version) -> Trained:
    """Train, score and export on the embedded set by the version's own command; raises TrainingFailedError."""
    results = version.home / "results"
    command = [sys.executable, "-m", "bench", "run-all", "--models", MODEL, *TRAINING, "--results", str(results)]
    done = subprocess.run(
        command, cwd=version.tree, env=environment(version), capture_output=True, text=True, check=False
    )
    for path in results.glob("records/*/*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "ok":
            return _trained(results, path, record)
    message = f"the training of {version.name} failed: {failure(results) or (done.stdout + done.stderr)[-1500:]}"
    raise TrainingFailedError(message)


def failure(results: Path) -> str:
    """Return the last line of the error that a record tells of, or nothing."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in results.glob("records/*/*.json")]
    lines = [line for record in records for line in (record["error"] or "").splitlines()]
    return lines[-1] if lines else ""


def _trained(results: Path, path: Path, record: dict[str, Any]) -> Trained:
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
        return Trained(
            record=record,
            image_ids=tuple(stored["image_ids"].tolist()),
            labels=tuple(stored["labels"].tolist()),
            predicted=tuple(stored["predicted"].tolist()),
            onnx=results / "artifacts" / record["train_id"] / "model.onnx",
        )


@contextlib.contextmanager
def probe(version: Version, model: Path, padding: int = 0) -> Iterator[Probe]:
    """Start a version's process, and kill it in the end: torch takes seconds to leave.

    ``padding`` bytes of environment move its memory about: pairs with several see more than one layout.
    """
    variables = environment(version) | {"LAYOUT_PADDING": "x" * padding}
    command = [sys.executable, "-P", str(PROBE), str(version.tree), str(model)]
    with (version.home / "probe.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=version.tree,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def send(process: Probe, request: dict[str, Any]) -> None:
    """Send one request; where the process is gone, ``receive`` says so."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()


def receive(process: Probe) -> dict[str, Any]:
    """Wait for an answer; raises RuntimeError where the process is gone."""
    assert process.stdout is not None
    if line := process.stdout.readline():
        return dict(json.loads(line))
    message = f"a version's process ended with status {process.wait()}"
    raise RuntimeError(message)


def ask(process: Probe, request: dict[str, Any]) -> dict[str, Any]:
    """Send one request and wait for its answer."""
    send(process, request)
    return receive(process)
