"""Records that were edited, damaged or made up: each is a warning with its reason, and the others are read."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli.main import main
from bench.records.schema import RunRecord
from bench.records.store import digest_of, read_record, read_records, record_path, write_with_digest
from tests.helpers import examples

Edit = Callable[[dict[str, Any]], object]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What a command has printed, its lines joined."""
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


def right(share: float, number: int = 200) -> np.ndarray:
    return np.arange(number) < share * number


def kept(results: Path, model: str, share: float, *, digest: bool) -> RunRecord:
    """Write a record with predictions, of which this share is right, with or without a digest."""
    labels = np.arange(200) % 2
    predictions = examples.predictions_of(right(share), labels, classes=2)
    record = examples.keep(
        results,
        model,
        predictions,
        examples.data_of(labels, ("cat", "dog")),
        measurements=(examples.measurement("onnxruntime-cpu"),),
    )
    if digest:
        write_with_digest(record, record_path(results, record))
    return record


def edited(results: Path, record: RunRecord, edit: Edit) -> None:
    path = record_path(results, record)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def metrics(content: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = content["outcome"]["metrics"]["test_metrics"]
    return found


def samples(content: dict[str, Any]) -> list[float]:
    (latency,) = content["latency"].values()
    found: list[float] = latency["measurements"][0]["samples_ms"]
    return found


EDITS: dict[str, Edit] = {
    "accuracy": lambda content: metrics(content).update(top1_accuracy=0.999),
    "macro-F1": lambda content: metrics(content).update(macro_f1=0.999),
    "latency": lambda content: samples(content).__setitem__(0, 0.001),
    "training time": lambda content: content["outcome"]["training"].update(train_time_s=1.0),
    "parameters": lambda content: content["outcome"]["model"].update(num_params=7),
    "seed": lambda content: content["config"].update(seed=3),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_record_is_not_read(edit: Edit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other, record = kept(tmp_path, "good", 0.7, digest=True), kept(tmp_path, "edited", 0.5, digest=True)
    edited(tmp_path, record, edit)
    assert read_records(tmp_path) == [other]
    assert "changed after it was written: it does not have the digest" in caplog.text


def test_white_space_and_order_are_no_edit(tmp_path: Path) -> None:
    record = kept(tmp_path, "net", 0.7, digest=True)
    path = record_path(tmp_path, record)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))
    assert read_record(path) == record


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(content=st.dictionaries(st.text(), values), name=st.text(), value=values)
def test_the_digest_is_that_of_the_content(content: dict[str, Any], name: str, value: Any) -> None:
    digest = digest_of(json.dumps(content))
    assert digest_of(json.dumps(dict(reversed(content.items())), indent=2)) == digest
    changed = content | {name: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(content, sort_keys=True)
    assert (digest_of(json.dumps(changed)) == digest) == (same or name == "digest")


def test_an_old_record_is_checked_by_its_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The accuracy and its confusion matrix were edited alike; without a digest only the predictions show it."""
    kept(tmp_path, "good", 0.7, digest=False)
    record = kept(tmp_path, "edited", 0.5, digest=False)
    perfect = dict.fromkeys(("top1_accuracy", "macro_f1", "balanced_accuracy"), 1.0)
    edited(tmp_path, record, lambda content: metrics(content).update(perfect))
    edited(
        tmp_path,
        record,
        lambda content: content["outcome"]["metrics"].update(test_confusion_matrix=[[100, 0], [0, 100]]),
    )
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0
    reason = "its accuracy is 100.0 %, but 50.0 % by its predictions"
    assert f"excluded edited, seed 0: {reason}" in said(capsys)
    text = (tmp_path / "leaderboard.md").read_text()
    assert f"Note: `edited`, seed 0, is excluded: {reason}" in text
    assert "| `edited` |" not in text


def test_replaced_predictions_are_not_those_of_the_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Other predictions with the same accuracy are found by their digest."""
    kept(tmp_path, "good", 0.7, digest=True)
    record = replace(kept(tmp_path, "net", 0.5, digest=True), predictions_sha256="0" * 64)
    write_with_digest(record, record_path(tmp_path, record))
    assert main(["compare", "good", "net", "--results", str(tmp_path)]) == 2
    assert "excluded net, seed 0: its predictions were changed after they were written" in said(capsys)


def replaced(name: str, data: bytes | None) -> Callable[[Path], None]:
    """Return the damage of an npz file one of whose arrays is replaced, added or removed."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as stored:
            arrays = {entry: stored.read(entry) for entry in stored.namelist()}
        arrays |= {} if data is None else {name: data}
        with zipfile.ZipFile(path, "w") as stored:
            for entry, content in arrays.items():
                if data is not None or entry != name:
                    stored.writestr(entry, content)

    return damage


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[45:120] = bytes(byte ^ 0xFF for byte in content[45:120])
    path.write_bytes(content)


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:300]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flipped,
    "array of text": replaced("predicted.npy", b"no array"),
    "array missing": replaced("predicted.npy", None),
    "array added": replaced("evil.npy", b"\x93NUMPY"),
    "pipe": fifo,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_with_damaged_predictions_is_excluded_and_named(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(tmp_path, "good", 0.7, digest=False)
    record = kept(tmp_path, "damaged", 0.5, digest=False)
    DAMAGE[damage](record_path(tmp_path, record).with_suffix(".npz"))
    for command in (("leaderboard",), ("report", "--no-images"), ("recommend",)):
        assert main([*command, "--results", str(tmp_path)]) in {0, 3}
        assert "excluded damaged, seed 0: its predictions " in said(capsys)
    assert "Note: `damaged`, seed 0, is excluded: its predictions " in (tmp_path / "leaderboard.md").read_text()
    assert main(["verify", "--results", str(tmp_path)]) == 1


def test_a_removed_digest_is_an_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No version has written digests of predictions, but none of records."""
    kept(tmp_path, "good", 0.7, digest=True)
    record = replace(kept(tmp_path, "edited", 0.5, digest=True), predictions_sha256="0" * 64)
    write_with_digest(record, record_path(tmp_path, record))
    edited(tmp_path, record, lambda content: (content.pop("digest"), samples(content).__setitem__(0, 0.001)))
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0
    assert "it has a digest of its predictions, but none of its own" in said(capsys)


@pytest.mark.parametrize("folder", ["records/zz", "measurements/zz", "sweeps"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_skipped(
    folder: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading would never end."""
    kept(tmp_path, "good", 0.7, digest=True)
    path = tmp_path / folder / "x.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert main(["verify", "--results", str(tmp_path)]) == 1
    assert f"{folder}/x.json: [Errno 22] not a regular file" in said(capsys)
    assert main(["leaderboard", "--results", str(tmp_path)]) == 0


def matrix(content: dict[str, Any]) -> list[list[int]]:
    found: list[list[int]] = content["outcome"]["metrics"]["test_confusion_matrix"]
    return found


HOSTILE: dict[str, Edit] = {
    "missing metric": lambda content: metrics(content).pop("top1_accuracy"),
    "accuracy of 2": lambda content: metrics(content).update(top1_accuracy=2.0),
    "negative loss": lambda content: metrics(content).update(log_loss=-1.0),
    "val missing": lambda content: content["outcome"]["metrics"]["val_metrics"].clear(),
    "no class names": lambda content: content["dataset"].update(class_names=[]),
    "one class name": lambda content: content["dataset"].update(class_names=["cat"]),
    "empty class name": lambda content: content["dataset"].update(class_names=["cat", ""]),
    "repeated class name": lambda content: content["dataset"].update(class_names=["cat", "cat"]),
    "no test counts": lambda content: content["dataset"]["counts"].pop("test"),
    "zero test counts": lambda content: content["dataset"]["counts"].update(test=[0, 0]),
    "negative counts": lambda content: content["dataset"]["counts"].update(train=[-1, 5]),
    "more counts": lambda content: content["dataset"]["counts"].update(test=[100, 100, 5]),
    "empty matrix": lambda content: content["outcome"]["metrics"].update(test_confusion_matrix=[]),
    "ragged matrix": lambda content: matrix(content)[0].append(0),
    "negative matrix": lambda content: matrix(content).__setitem__(0, [101, -1]),
    "other matrix": lambda content: matrix(content).__setitem__(0, [0, 100]),
    "no parameters": lambda content: content["outcome"]["model"].update(num_params=0),
    "negative GMACs": lambda content: content["outcome"]["model"].update(gmacs=-1.0),
    "no size": lambda content: content["outcome"]["artifact"].update(size_bytes=0),
    "negative time": lambda content: content["outcome"]["training"].update(train_time_s=-1.0),
    "negative sample": lambda content: samples(content).__setitem__(0, -1.0),
    "zero sample": lambda content: samples(content).__setitem__(0, 0.0),
    "samples without queries": lambda content: next(iter(content["latency"].values()))["measurements"][0].update(
        num_queries=0
    ),
    "ok without an outcome": lambda content: content.update(outcome=None),
    "failed with an outcome": lambda content: content.update(status="failed"),
    "outcome of a wrong type": lambda content: content.update(outcome=[1]),
    "version as text": lambda content: content.update(schema_version="5"),
    "no config": lambda content: content.pop("config"),
    "unknown recipe type": lambda content: content["config"].update(train=3),
    "text for a number": lambda content: metrics(content).update(top1_accuracy="0.5"),
    "null for a number": lambda content: metrics(content).update(top1_accuracy=None),
    "negative scorings": lambda content: content.update(test_scorings=-1),
    "negative duration": lambda content: content.update(duration_s=-5.0),
}

RAW = {
    "nothing": "",
    "no JSON": "}{",
    "a list": "[]",
    "deep lists": "[" * 10_000 + "]" * 10_000,
    "a deep field": '{"schema_version": 5, "outcome": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "a deep version": '{"schema_version": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "infinity": '{"schema_version": 5, "duration_s": 1e999}',
    "half a character": '{"schema_version": 5, "run_id": "\\ud800"}',
}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with two good records and all bad ones."""
    results = tmp_path_factory.mktemp("results")
    for model, share in (("first", 0.9), ("second", 0.6)):
        kept(results, model, share, digest=False)
    for name, edit in HOSTILE.items():
        record = kept(results, name.replace(" ", "-"), 0.5, digest=False)
        edited(results, record, edit)
    folder = next((results / "records").iterdir())
    for number, text in enumerate(RAW.values()):
        (folder / f"raw-{number}.json").write_text(text)
    return results


def test_the_good_records_are_read(stranger: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sorted(record.config.model for record in read_records(stranger)) == ["first", "second"]
    skipped = [line for line in caplog.messages if line.startswith("skipped records/")]
    assert len(skipped) == len(HOSTILE) + len(RAW)
    assert all(len(line) < 400 and "\n" not in line for line in skipped)


@pytest.mark.parametrize(
    "command",
    [("leaderboard",), ("report",), ("compare", "first", "second"), ("recommend",)],
    ids=lambda command: command[0],
)
def test_commands_go_on(command: tuple[str, ...], stranger: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--results", str(stranger)]) == 0
    output = said(capsys)
    assert "Traceback" not in output
    assert "first" in output or command[0] in {"leaderboard", "report"}
