"""The command predict: formats, errors and exit status."""

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.cli import predict
from bench.cli.main import main
from imgcls.inference.predict import PhotoPrediction, Prediction
from tests.helpers.cards import edit_card
from tests.helpers.commands import ROOT
from tests.helpers.images import MakeFolder, smooth_image

NOT_UTF8 = os.fsdecode(b"\xff.png")


@pytest.fixture
def model(artifacts: Path) -> str:
    return str(artifacts / "model.onnx")


@pytest.fixture
def photos(make_folder: MakeFolder) -> Path:
    """Four photos in two folders, and a text file."""
    root = make_folder({"in": 2, "out": 2}, name="photos")
    (root / "in" / "notes.txt").write_text("x")
    return root


def lines(arguments: list[str], capfd: pytest.CaptureFixture[str], *, status: int = 0) -> list[dict[str, Any]]:
    assert main(["predict", *arguments, "--json"]) == status
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def images(found: list[dict[str, Any]]) -> list[str]:
    return [Path(one["image"]).name for one in found]


def test_a_folder_is_answered_besides_bad_files(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = lines([model, str(photos)], capfd, status=1)
    assert images(found) == ["000.png", "001.png", "notes.txt", "000.png", "001.png"]
    assert found[2] == {"image": str(photos / "in" / "notes.txt"), "model": model, "error": "not an image"}
    good = found[0]
    assert {**good, "predictions": len(good["predictions"])} == {
        "image": str(photos / "in" / "000.png"),
        "model": model,
        "predictions": 1,
        "calibrated": False,
        "uncalibrated_reason": "the file has no temperature",
    }


def test_patterns_and_tables_name_photos(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (photos / "list.csv").write_text("label,path\nx,out/001.png\ny,in/000.png\nx,out/001.png\n")
    found = lines([model, str(photos / "list.csv"), str(photos / "**" / "000*")], capfd)
    assert [one["image"].removeprefix(f"{photos}/") for one in found] == [
        "out/001.png",
        "in/000.png",
        "out/001.png",
        "in/000.png",
        "out/000.png",
    ]


def test_a_missing_file_is_a_row(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing, good = lines([model, "none.jpg", str(photos / "in" / "000.png")], capfd, status=1)
    assert missing["error"] == "unreadable: No such file or directory"
    assert good["predictions"]


def test_csv_and_json_agree(model: str, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sharp = str(edit_card(Path(model), tmp_path / "sharp, and calibrated.onnx", temperature=0.25))
    (photos / "in" / NOT_UTF8).write_bytes((photos / "in" / "000.png").read_bytes())
    arguments = [model, sharp, str(photos), "--top-k", "2"]
    objects = lines(arguments, capfd, status=1)
    assert main(["predict", *arguments, "--csv"]) == 1
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    expected = "image,model,class_1,probability_1,class_2,probability_2,calibrated,error,uncalibrated_reason"
    assert list(rows[0]) == expected.split(",")
    assert len(rows) == len(objects) == 2 * 6
    for row, found in zip(rows, objects, strict=True):
        assert (row["image"], row["model"], row["error"]) == (found["image"], found["model"], found.get("error", ""))
        assert row["calibrated"] == str(row["model"] == sharp).lower()
        ranked = [(one["class"], one["probability"]) for one in found.get("predictions", [])]
        cells = [(row[f"class_{place}"], row[f"probability_{place}"]) for place in (1, 2)]
        assert [(name, float(share)) for name, share in cells if name] == ranked
    assert rows[0]["probability_1"] < rows[1]["probability_1"]
    assert any(row["image"].endswith("%FF.png") for row in rows)


def test_a_table_shows_ranks_reasons_and_models(
    model: str, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sharp = edit_card(Path(model), tmp_path / "sharp.onnx", temperature=0.25, class_names=["[bold]x", "y", "z"])
    monkeypatch.chdir(photos)
    assert main(["predict", model, str(sharp), "in", "--top-k", "3"]) == 1
    out = capfd.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out if line.startswith("│")]
    assert [row[:2] for row in cells if row[0]] == [
        [image, number] for image in ("in/000.png", "in/001.png", "in/notes.txt") for number in ("1", "2")
    ]
    assert {row[2] for row in cells[3:6]} == {"[bold]x", "y", "z"}
    assert cells[-1] == ["in/notes.txt", "2", "failed: not an image", "-"]
    assert out[-3:] == [
        f"model 1: {model}: probabilities not calibrated: the file has no temperature",
        f"model 2: {sharp}",
        "WARNING: 2 of 6 predictions failed; their rows give the reasons",
    ]
    assert max(map(len, out[:-3])) <= 80


def test_one_calibrated_model_needs_no_note(
    model: str, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sharp = str(edit_card(Path(model), tmp_path / "sharp.onnx", temperature=0.25))
    for path, noted in ((model, True), (sharp, False)):
        assert main(["predict", path, str(photos / "out")]) == 0
        out = capfd.readouterr().out
        assert "Model" not in out
        last = out.splitlines()[-1]
        assert last.startswith(f"{path}: probabilities not calibrated") if noted else last.startswith("└")


def damaged_tiff(path: Path) -> None:
    """Write a file about which libtiff complains on standard error, and Pillow by its reason."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[2000:2040] = b"\xff" * 40
    path.write_bytes(data)


def test_stdout_holds_only_data(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged_tiff(photos / "in" / "damaged.tif")
    assert main(["predict", model, str(photos), "--json"]) == 1
    out, err = capfd.readouterr()
    assert len([json.loads(line) for line in out.splitlines()]) == 6
    assert err == "WARNING: 2 of 6 predictions failed; their rows give the reasons\n"


@pytest.mark.parametrize("flag", ["--json", "--csv"])
def test_answers_are_written_one_by_one(
    model: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    prediction = PhotoPrediction(
        photo="x.png", model=model, uncalibrated_reason=None, predictions=(Prediction("a", 0.5),)
    )
    seen: list[str] = []

    def predictions(*_: object, **__: object) -> Iterator[PhotoPrediction]:
        yield prediction
        seen.append(capfd.readouterr().out)
        yield prediction

    monkeypatch.setattr(predict, "classify", predictions)
    assert main(["predict", model, "x.png", "x.png", flag]) == 0
    assert "x.png" in seen[0]
    assert seen[0].endswith("\n")


def test_a_reader_may_stop_reading(model: str, photos: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "bench", "predict", model, *[str(photos)] * 400, "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.wait(timeout=300) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("to_file", [True, False])
def test_a_bar_is_drawn_beside_data_not_over_it(model: str, photos: Path, tmp_path: Path, *, to_file: bool) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "bench", "predict", model, *[str(photos / "in")] * 40, "--json"]
    with (tmp_path / "out").open("w+") as file, os.fdopen(ours, "rb", buffering=0) as terminal:
        environment = {**os.environ, "TERM": "xterm"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file if to_file else theirs, stderr=theirs
        ) as process:
            os.close(theirs)
            shown = b""
            with contextlib.suppress(OSError):  # the error by which a terminal ends
                while part := terminal.read(4096):
                    shown += part
            assert process.wait(timeout=300) == 1
        data = (tmp_path / "out").read_text() if to_file else shown.decode()
    found = [json.loads(line) for line in data.splitlines() if "WARNING" not in line]
    assert len(found) == 120
    assert (b"predicting: " in shown) == to_file


def test_torch_is_not_loaded(model: str, photos: Path) -> None:
    code = "import sys; from bench.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "predict", model, str(photos / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Probability" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "predict needs a model before the photos"),
        (["x.png"], "predict needs a model before the photos"),
        (["MODEL"], "predict needs a photo after the models"),
        (["MODEL", "x.png", "--csv", "--json"], "--csv and --json exclude each other"),
        (["MODEL", "*.nothing"], "*.nothing: no file matches this pattern"),
        (["MODEL", "FOLDER"], "no files in this folder"),
        (["MODEL", "none.csv"], "none.csv: not a table that can be read"),
        (["MODEL", "x.png", "--top-k", "4"], "has 3 classes, use 1 to 3"),
        (["MODEL", "FOREIGN", "x.png", "--csv"], "not an ONNX model that can be read"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], says: str, model: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": model, "FOLDER": str(tmp_path), "FOREIGN": str(tmp_path / "foreign.onnx")}
    if "FOREIGN" in arguments:
        (tmp_path / "foreign.onnx").write_bytes(Path(model).read_bytes()[:1000])
    assert main(["predict", *[places.get(word, word) for word in arguments]]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_photo_is_answered_once_per_model(model: str, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    smooth_image(7).save(photos / "x.png")
    assert len(lines([model, model, str(photos / "x.png")], capfd)) == 1
