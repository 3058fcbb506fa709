"""No command unpickles bytes of a file, in any of its processes, and a training state cannot run code."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.records.store import read_records
from bench.runs.failures import last_line
from tests.helpers.commands import ROOT, bench, kill, start
from tests.helpers.images import MakeFolder

GUARD = ROOT / "tests" / "fixtures" / "unpickling"
TINY = ("test_efficientnet", "--weights", "none", "--image-size", "32")
RUN = (*TINY, "--recipe", "quick", "--runtimes", "onnxruntime-cpu")


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """The environment in which all Python processes are watched."""
    path = os.pathsep.join([str(GUARD), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "UNPICKLED_LOG": str(tmp_path / "unpickled.log")}


def lines(watched: dict[str, str], kind: str) -> list[str]:
    return [line for line in Path(watched["UNPICKLED_LOG"]).read_text().splitlines() if line.startswith(kind)]


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.sign),)


IN_A_WORKER = """
import sys, {imports}
def read(path):
    {read}
def echo(value):
    return value
if __name__ == "__main__":
    {pool}
"""

SPAWN = "print(multiprocessing.get_context('spawn').Pool(1).map({what}, [{value}]))"
LOKY = "print(joblib.Parallel(2, backend='loky')(joblib.delayed({what})(value) for value in [{value}] * 2))"


def in_a_worker(
    folder: Path, watched: dict[str, str], imports: str, read: str, pool: str
) -> "subprocess.CompletedProcess[str]":
    script = folder / "script.py"
    script.write_text(IN_A_WORKER.format(imports=imports, read=read, pool=pool))
    return subprocess.run(
        [sys.executable, script], env={**os.environ, **watched}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("imports", "read", "pool"),
    [
        ("multiprocessing, pickle", "return pickle.load(open(path, 'rb'))", SPAWN),
        ("multiprocessing, _pickle", "return _pickle.loads(open(path, 'rb').read())", SPAWN),
        ("joblib, pickle", "return pickle.Unpickler(open(path, 'rb')).load()", LOKY),
        ("joblib", "return joblib.load(path)", LOKY),
        ("multiprocessing, numpy", "return numpy.load(path, allow_pickle=True)", SPAWN),
        ("multiprocessing, pandas", "return pandas.read_pickle(path)", SPAWN),
        ("multiprocessing, torch", "return torch.load(path, weights_only=False)", SPAWN),
    ],
)
def test_a_worker_that_unpickles_a_file_is_detected(
    imports: str, read: str, pool: str, watched: dict[str, str], tmp_path: Path
) -> None:
    """And what workers and their callers send each other is not."""
    file, sign = tmp_path / "file", tmp_path / "ran"
    file.write_bytes(pickle.dumps(Trap(sign)))
    sent = in_a_worker(tmp_path, watched, imports, read, pool.format(what="echo", value="{'sent': (1, 2)}"))
    assert (sent.returncode, sent.stdout[:17]) == (0, "[{'sent': (1, 2)}"), sent.stderr
    assert lines(watched, "unpickled") == []
    done = in_a_worker(tmp_path, watched, imports, read, pool.format(what="read", value=repr(str(file))))
    assert done.returncode
    assert lines(watched, "unpickled"), done.stderr
    assert not sign.exists()


def stopped(results: Path, *flags: str, environment: dict[str, str] | None = None) -> Path:
    """Kill a run after its first epoch, and return its training state."""
    process = start("run", *flags, "--results", str(results), environment=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if (states := list(results.glob("artifacts/*/state.pt"))) and "  epoch " in line:
            break
    else:
        pytest.fail("the run has ended")
    kill(process)
    return states[0]


def test_no_command_unpickles_a_file(watched: dict[str, str], make_folder: MakeFolder, tmp_path: Path) -> None:
    data, results = make_folder({"cat": 30, "dog": 30}), tmp_path / "results"
    here = ("--results", str(results))
    flags = (*RUN, "--epochs", "12", "--data", str(data))
    stopped(results, *flags, environment=watched)
    commands: list[tuple[str, ...]] = [
        ("run", *flags, "--seeds", "0", "1", *here),
        ("sweep", *TINY, "--recipe", "quick", "--data", str(data), "--trials", "2", *here),
        ("leaderboard", *here),
        ("report", *here),
        ("verify", *here),
        ("audit", str(data), *here),
    ]
    for command in commands:
        status, output = bench(*command, environment=watched)
        assert status == 0, output
    first, second = (record.run_id for record in read_records(results))
    model = next(results.glob("artifacts/*/model.onnx"))
    for command in (("compare", first, second, *here), ("predict", str(model), str(data))):
        status, output = bench(*command, environment=watched)
        assert status == 0, output
    runtimes = ("--runtimes", "onnxruntime-cpu", "pytorch-cpu")
    measuring = start("measure", *runtimes, *here, environment=watched, module="tests.helpers.short_protocol")
    output, _ = measuring.communicate(timeout=300)
    assert measuring.returncode == 0, output
    resumed = [record.outcome.training.resumed_from for record in read_records(results) if record.outcome is not None]
    assert any(resumed)
    assert lines(watched, "unpickled") == []
    for module in ("bench.runs.worker", "bench.tuning.worker", "bench.latency.worker"):
        assert any(module in line for line in lines(watched, "watched")), module


def test_a_hostile_training_state_is_a_failed_row(make_folder: MakeFolder, tmp_path: Path) -> None:
    """Its code does not run, and the message does not advise to run it."""
    data, results, sign = make_folder({"cat": 30, "dog": 30}), tmp_path / "results", tmp_path / "ran"
    flags = (*RUN, "--epochs", "12", "--data", str(data))
    torch.save({"model": Trap(sign)}, stopped(results, *flags))
    status, output = bench("run", *flags, "--results", str(results))
    reason = "state.pt is not the state of this training (UnpicklingError); delete it to train from the start"
    assert status == 1, output
    assert reason in " ".join(output.split())
    (record,) = read_records(results)
    assert last_line(record.error or "").endswith(reason)
    assert not sign.exists()
