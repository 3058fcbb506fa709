"""``verify``: exit 0 only if everything in a results folder agrees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.cli.main import main
from bench.recipes import RECIPES
from bench.records.schema import RunRecord
from bench.records.store import record_path, write_with_digest
from bench.runs import execution
from bench.runs.plan import Task
from imgcls.evaluation.predictions import load_predictions, predictions_file, save_predictions
from imgcls.inference.runtimes import ONNX
from tests.helpers import examples
from tests.helpers.images import MakeFolder


def kept(results: Path, model: str, share: float) -> RunRecord:
    labels = np.arange(200) % 2
    predictions = examples.predictions_of(np.arange(200) < share * 200, labels, classes=2)
    record = examples.keep(results, model, predictions, examples.data_of(labels, ("cat", "dog")))
    write_with_digest(record, record_path(results, record))
    return record


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for model, share in (("first", 0.9), ("second", 0.6)):
        kept(tmp_path, model, share)
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0
    return tmp_path


def verified(results: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["verify", "--results", str(results)])
    return status, capsys.readouterr().out


def test_a_whole_folder_agrees(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, output = verified(results, capsys)
    assert status == 0, output
    assert "2 records and 0 other files: 0 problems; no digest (of an earlier version): 0;" in output


def test_files_without_a_digest_are_counted(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.arange(200) % 2
    predictions = examples.predictions_of(np.ones(200, dtype=bool), labels, classes=2)
    examples.keep(results, "third", predictions, examples.data_of(labels, ("cat", "dog")))
    (results / "leaderboard.md").unlink()
    status, output = verified(results, capsys)
    assert (status, "no digest (of an earlier version): 1" in output) == (0, True)


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv"])
def test_an_edited_leaderboard(name: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / name
    path.write_text(path.read_text().replace("0.9", "0.99").replace("90.", "99."))
    status, output = verified(results, capsys)
    assert status == 1
    assert f"{name}: not what this checkout makes of the records (python -m bench leaderboard)" in output


def test_edited_and_damaged_records(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sorted((results / "records").glob("*/*.json"))
    first.write_text(first.read_text().replace('"duration_s": 12.0', '"duration_s": 13.0'))
    second.write_text(second.read_text()[:-20])
    status, output = verified(results, capsys)
    assert status == 1
    assert f"{first.name}: changed after it was written" in output
    assert f"{second.name}: not a complete record" in output


def test_replaced_predictions(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sorted((results / "records").glob("*/*.npz"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    status, output = verified(results, capsys)
    assert status == 1
    problems = [line for line in output.splitlines() if line.startswith("records/")]
    assert len(problems) == 2
    assert all(line.endswith("by its predictions") for line in problems)


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path) -> Task:
    config = RECIPES["quick"]("test_efficientnet")
    train = replace(config.train, epochs=1, train_threads=1)
    config = replace(config, train=train, loader=replace(config.loader, image_size=32))
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)


def test_artifacts_are_those_of_the_record(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    """The exported file has its digest, and the stored logits give the classes of the record's predictions."""
    record = execution.run_and_record(task)
    assert verified(task.paths.results, capsys)[0] == 0
    folder = task.paths.artifacts(record.train_id)
    file = predictions_file(folder, "test")
    whole = file.read_bytes()
    stored = load_predictions(file)
    save_predictions(replace(stored, logits=-stored.logits), file)
    status, output = verified(task.paths.results, capsys)
    assert status == 1
    assert f"artifacts/{record.train_id}/{ONNX}: the logits in test_logits.npz give other classes" in output
    file.write_bytes(whole)
    (folder / ONNX).write_bytes((folder / ONNX).read_bytes() + b" ")
    status, output = verified(task.paths.results, capsys)
    assert status == 1
    assert "sha256 " in output


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--results", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
