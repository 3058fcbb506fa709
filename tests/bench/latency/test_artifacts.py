"""Copied artifacts are measured where neither data set, cache nor records of the training machine exist."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench import harness
from bench.cli import run
from bench.cli.main import main
from bench.latency import cold_start, measure, round_worker
from bench.latency.protocol import Protocol
from bench.recipes import RECIPES
from bench.records import locks
from bench.records.environment import read_environment
from bench.records.measurements import Check
from bench.records.paths import Paths
from bench.records.schema import LatencyFile, RunRecord
from bench.records.store import read_latency_file, read_record, read_records, record_path, write_with_digest
from bench.runs import recording
from bench.runs.images import remember_place
from imgcls.config import RuntimeConfig
from imgcls.inference.runtimes import ONNX, ONNX_FP16, ONNX_INT8
from imgcls.inference.synthetic import SYNTHETIC
from tests.helpers.commands import without_processes
from tests.helpers.examples import SHORT
from tests.helpers.images import smooth_image

SERVER, LAPTOP = "server-64-cores", "laptop-4-cores"
PROTOCOL = replace(SHORT, rounds=2, batch_sizes=(), files=True)
INT8 = "onnxruntime-cpu-int8"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Results of the server, and the record of its run."""

    results: Path
    record: RunRecord

    @property
    def artifacts(self) -> Path:
        return self.results / "artifacts" / self.record.train_id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on the server, measured there in float32 and int8; its data set and cache do not exist any more."""
    home = tmp_path_factory.mktemp("server")
    for seed in range(60):
        path = home / "pets" / ("cat" if seed % 2 else "dog") / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth_image(seed).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGCLS_CACHE", str(home / "cache"))
        server = replace(read_environment(), machine=SERVER)
        for module in (harness, measure):
            patch.setattr(module, "read_environment", lambda: server)
        patch.setattr(locks, "machine_alone", nullcontext)
        config = RECIPES["quick"]("test_efficientnet")
        planner = harness.planner([config], data=str(home / "pets"), weights="none", results=home / "results")
        task = planner(config)
        record = recording.run_and_record(task)
        assert record.error is None
        remember_place(task)
        runtime = RuntimeConfig(runtimes=("onnxruntime-cpu", INT8), threads=1)
        with without_processes():
            assert measure.measure_all([record], task.paths, protocol=PROTOCOL, runtime=runtime, known=()).ok
    shutil.rmtree(home / "pets")
    shutil.rmtree(home / "cache")
    return Trained(results=home / "results", record=record)


@pytest.fixture
def copied(server: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The artifacts on a laptop, where the command uses a short protocol."""
    laptop = replace(read_environment(), machine=LAPTOP)
    for module in (run, measure):
        monkeypatch.setattr(module, "read_environment", lambda: laptop)
    monkeypatch.setattr(run, "FULL", PROTOCOL)
    monkeypatch.setattr(locks, "machine_alone", nullcontext)
    shutil.copytree(server.artifacts, tmp_path / "from-server" / "model")
    return tmp_path / "from-server" / "model"


def measured(copied: Path, *runtimes: str, processes: bool = False) -> int:
    flags = ("--artifacts", str(copied.parent), "--results", str(copied.parent.parent / "results"))
    with nullcontext() if processes else without_processes():
        return main(["measure", *flags, "--runtimes", *(runtimes or ("onnxruntime-cpu",))])


def written(copied: Path) -> LatencyFile:
    (path,) = (copied.parent.parent / "results" / "measurements" / LAPTOP).iterdir()
    return read_latency_file(path)


def check_of(copied: Path) -> Check:
    (check,) = written(copied).latency.checks
    return check


def test_artifacts_hold_what_travels(server: Trained) -> None:
    left = {path.name for path in server.artifacts.iterdir()}
    assert {SYNTHETIC, ONNX_INT8, f"{server.record.run_id}.json"} <= left
    assert read_record(server.artifacts / f"{server.record.run_id}.json") == server.record


def test_copied_artifacts_are_measured_alone(
    server: Trained, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record_path(server.results, server.record).read_bytes()
    away = server.results.rename(server.results.with_name("away"))
    try:
        assert measured(copied, "onnxruntime-cpu", "pytorch-cpu", processes=True) == 0
    finally:
        away.rename(server.results)
    out = capsys.readouterr().out
    assert f"written: {tmp_path / 'results' / 'measurements' / LAPTOP}\n" in out
    assert "Copy this folder to measurements/ in the results folder of the training machine" in out
    assert not (tmp_path / "results" / "records").exists()
    found = written(copied)
    assert (found.run_id, found.latency.environment.machine) == (server.record.run_id, LAPTOP)
    assert {(row.runtime, row.kind, row.status, len(row.rounds)) for row in found.latency.measurements} == {
        ("onnxruntime-cpu", "host", "ok", 2),
        ("pytorch-cpu", "host", "ok", 2),
    }
    for check in found.latency.checks:
        assert (check.status, check.inputs, check.num_images) == ("ok", "synthetic", 64)
        assert check.parity is not None
        assert check.parity.max_rel_logit_error < 1e-4
        assert (check.parity.only_trained_right, check.parity.only_runtime_right) == (None, None)
    results = shutil.copytree(server.results, tmp_path / "server")
    shutil.copytree(tmp_path / "results" / "measurements", results / "measurements")
    assert main(["leaderboard", "--results", str(results)]) == 0
    assert f"On {LAPTOP}, p50 in ms on " in capsys.readouterr().out
    assert f"`test_efficientnet, seed 0, on {LAPTOP}`" in (results / "leaderboard.md").read_text()
    (record,) = read_records(results)
    assert set(record.latency) == {SERVER, LAPTOP}
    assert record_path(results, record).read_bytes() == before


def test_int8_travels_as_it_was_made(server: Trained, copied: Path) -> None:
    before = (copied / ONNX_INT8).read_bytes()
    assert measured(copied, INT8) == 0
    check = check_of(copied)
    (made,) = (check for check in read_records(server.results)[0].checks if check.runtime == INT8)
    assert (copied / ONNX_INT8).read_bytes() == before
    assert (check.made_from, check.precision) == (made.made_from, "int8")
    assert check.parity is not None
    assert check.parity.max_rel_logit_error > 1e-4


@pytest.mark.parametrize(("runtime", "file"), [(INT8, ONNX_INT8), ("onnxruntime-cuda-fp16", ONNX_FP16)])
def test_missing_files_are_not_made(runtime: str, file: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / file).unlink(missing_ok=True)
    assert measured(copied, runtime, "onnxruntime-cpu") == 1
    assert not (copied / file).exists()
    reason = f"{file} is not among the copied artifacts; copy it from the training machine, where measure --runtimes"
    assert f"{reason} {runtime} creates it" in capsys.readouterr().out
    assert {row.runtime: row.status for row in written(copied).latency.measurements} == {
        runtime: "failed",
        "onnxruntime-cpu": "ok",
    }


def rewrite(copied: Path, **changes: np.ndarray) -> None:
    """Replace arrays of the file of synthetic logits."""
    with np.load(copied / SYNTHETIC) as stored:
        content = dict(stored) | changes
    np.savez_compressed(copied / SYNTHETIC, **content)


def test_changed_synthetic_logits_fail_float32(copied: Path) -> None:
    with np.load(copied / SYNTHETIC) as stored:
        logits = stored["logits"] * np.float32(1.001)
    rewrite(copied, logits=logits)
    assert measured(copied) == 1
    assert "the logits differ from the trained model's" in str(check_of(copied).reason)
    assert not any(row.samples_ms for row in written(copied).latency.measurements)


def test_other_synthetic_inputs_fail(copied: Path) -> None:
    rewrite(copied, inputs_sha256=np.array("0" * 64))
    assert measured(copied) == 1
    assert "those of the training 0000" in str(check_of(copied).reason)


def test_artifacts_without_synthetic_logits_are_not_checked(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / SYNTHETIC).unlink()
    assert measured(copied) == 0
    assert "test_efficientnet: parity is not checked: no synthetic.npz" in capsys.readouterr().out
    check = check_of(copied)
    assert (check.inputs, check.parity) == ("synthetic", None)


def test_a_second_measurement_keeps_other_runtimes(copied: Path) -> None:
    for runtime in ("onnxruntime-cpu", INT8):
        assert measured(copied, runtime) == 0
    assert {row.runtime for row in written(copied).latency.measurements} == {"onnxruntime-cpu", INT8}


def test_one_damaged_model_of_two_is_a_failed_row(copied: Path, server: Trained) -> None:
    other = shutil.copytree(copied, copied.with_name("other"))
    (other / f"{server.record.run_id}.json").unlink()
    content = json.loads((copied / f"{server.record.run_id}.json").read_text())
    del content["digest"]  # of the record that is changed here
    write_with_digest(content | {"run_id": "two", "train_id": "two"}, other / "two.json")
    (other / ONNX).write_bytes((copied / ONNX).read_bytes()[:1000])
    assert measured(copied) == 1
    folder = Paths(results=copied.parent.parent / "results").measured_by(LAPTOP)
    rows = {path.stem: read_latency_file(path).latency.measurements for path in folder.iterdir()}
    assert [row.status for row in rows[server.record.run_id]] == ["ok"]
    assert [(row.status, "not an ONNX model" in str(row.reason)) for row in rows["two"]] == [("failed", True)]


REFUSED = {
    "cut": "model.onnx: not an ONNX model that can be read",
    "other": "the run exported",
    "no record": "has no record of its run; copy records/<machine>/<run_id>.json",
    "no artifacts": "no outcome.json there or below",
    "no folder": "no such folder; copy artifacts/<train_id>",
}


@pytest.mark.parametrize("damage", REFUSED)
def test_unusable_artifacts_are_one_line(
    damage: str, copied: Path, artifacts: Path, server: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    if damage == "cut":
        (copied / ONNX).write_bytes((copied / ONNX).read_bytes()[:1000])
    elif damage == "other":
        shutil.copy(artifacts / ONNX, copied / ONNX)
    elif damage == "no record":
        (copied / f"{server.record.run_id}.json").unlink()
    elif damage == "no artifacts":
        (copied / "outcome.json").unlink()
    else:
        shutil.rmtree(copied.parent)
    assert measured(copied) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --artifacts ")
    assert REFUSED[damage] in error
    assert error.count("\n") == 1
    assert not (copied.parent.parent / "results").exists()


@pytest.mark.parametrize("protocol", [PROTOCOL, replace(PROTOCOL, rounds=1)], ids=["checked", "in one round"])
def test_hostile_onnx_file_is_a_failed_row(
    protocol: Protocol, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No process opens it, although its record names its digest; the reason names no path of this machine."""
    proto = onnx.load(copied / ONNX)
    proto.graph.initializer.add(name="large", data_type=1, dims=[2**30])
    (copied / ONNX).write_bytes(proto.SerializeToString())
    monkeypatch.setattr(measure, "require_exported", lambda *_: None)
    monkeypatch.setattr(run, "FULL", protocol)
    monkeypatch.setattr(cold_start, "open_session", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(round_worker, "open_session", lambda *_, **__: pytest.fail("opened"))
    assert measured(copied) == 1, capsys.readouterr()
    (row,) = written(copied).latency.measurements
    assert row.reason == (
        "model.onnx: is not opened (tensor 'large' of shape 1073741824 takes 4294967296 bytes, but the file has 0); "
        "export it with this project"
    )
