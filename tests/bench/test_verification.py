"""``verify``: exit 0 only if everything in a results folder agrees."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.cli.main import main
from bench.recipes import RECIPES
from bench.records.paths import OUTCOME
from bench.records.schema import RunRecord
from bench.records.store import record_path, write_with_digest
from bench.runs import recording
from bench.runs.plan import Task
from imgcls.evaluation.predictions import load_predictions, predictions_file, save_predictions
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
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
    for path in results.glob("leaderboard*"):
        path.unlink()
    status, output = verified(results, capsys)
    assert (status, "no digest (of an earlier version): 1" in output) == (0, True)


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv"])
@pytest.mark.parametrize("edit", ["figures", "line ends", "bytes", "gone", "folder"])
def test_an_edited_leaderboard(name: str, edit: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / name
    text = path.read_text()
    path.unlink()
    if edit == "folder":
        path.mkdir()
    elif edit == "bytes":
        path.write_bytes(b"\xff\xfe")
    elif edit == "line ends":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif edit == "figures":
        path.write_text(text.replace("0.9", "0.99").replace("90.", "99."))
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


@pytest.mark.parametrize("place", ["another run's", "another machine's", "no run's"])
def test_record_in_another_place(place: str, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = sorted((results / "records").glob("*/*.json"))
    name = {"another run's": second, "no run's": first.with_name("0" * 16 + ".json")}
    target = name.get(place, results / "records" / "elsewhere" / first.name)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(first.read_bytes())
    assert main(["leaderboard", "--results", str(results)]) == 0
    status, output = verified(results, capsys)
    reason = f"it is the record of another run, which belongs in records/{first.parent.name}/{first.name}"
    assert status == 1
    assert f"{target.relative_to(results).as_posix()}: {reason}" in output


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path) -> Task:
    config = RECIPES["quick"]("test_efficientnet")
    train = replace(config.train, epochs=1, train_threads=1)
    config = replace(config, train=train, loader=replace(config.loader, image_size=32))
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)


def test_artifacts_are_those_of_the_record(task: Task, capsys: pytest.CaptureFixture[str]) -> None:
    """The exported file has its digest, and the stored logits give the classes of the record's predictions."""
    record = recording.run_and_record(task)
    assert verified(task.paths.results, capsys)[0] == 0
    folder = task.paths.artifacts(record.train_id)
    file = predictions_file(folder, "test")
    whole = file.read_bytes()
    stored = load_predictions(file)
    save_predictions(replace(stored, logits=-stored.logits), file)
    status, output = verified(task.paths.results, capsys)
    assert status == 1
    assert f"artifacts/{record.train_id}: the logits in test_logits.npz give other classes" in output
    file.write_bytes(whole)
    for name in (ONNX, WEIGHTS, "val_logits.npz", "synthetic.npz", OUTCOME, f"{record.run_id}.json"):
        content = (folder / name).read_bytes()
        for damaged in (content[: len(content) // 2], _flipped(content)):
            (folder / name).write_bytes(damaged)
            status, output = verified(task.paths.results, capsys)
            assert status == 1, name
            assert f"artifacts/{record.train_id}: " in output
        (folder / name).write_bytes(content)
    assert verified(task.paths.results, capsys)[0] == 0
    folder.rename(folder.with_name(f"{folder.name}.former"))
    status, output = verified(task.paths.results, capsys)
    assert status == 1
    assert f"artifacts/{record.train_id}.former: the result from before a repetition that was interrupted" in output


def _flipped(content: bytes) -> bytes:
    """Return content with other bytes in its middle, or in the first array of an npz file, which is compressed."""
    middle = 70 if content.startswith(b"PK") else len(content) // 2  # after the array's name
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 8]) + content[middle + 8 :]


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--results", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err
