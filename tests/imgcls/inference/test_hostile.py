"""Models and photos from strangers: refused in one line, or a row with its reason."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from imgcls.data.decode import UndecodableError, decode
from imgcls.errors import ConfigError
from imgcls.inference import predict
from imgcls.inference.card import CARD_KEY, read_card
from imgcls.inference.predict import classify, open_classifier
from tests.helpers.cards import edit_card
from tests.helpers.images import smooth_image

CARDS: dict[str, dict[str, object]] = {
    "version 99": {"version": 99},
    "version 0": {"version": 0},
    "no classes": {"class_names": []},
    "empty class": {"class_names": ["a", "", "c"]},
    "repeated class": {"class_names": ["a", "a", "c"]},
    "class of a number": {"class_names": ["a", "b", 3]},
    "mean of two": {"mean": [0.5, 0.5]},
    "std of four": {"std": [0.5] * 4},
    "std of zero": {"std": [0.5, 0.5, 0.0]},
    "negative std": {"std": [0.5, 0.5, -0.5]},
    "tiny temperature": {"temperature": 1e-300},
    "zero temperature": {"temperature": 0.0},
    "negative temperature": {"temperature": -1.0},
    "huge temperature": {"temperature": 1e9},
    "huge size": {"resize": {"size": 10**9, "interpolation": "bicubic"}},
    "no size": {"resize": {"size": 0, "interpolation": "bicubic"}},
    "size as text": {"resize": {"size": "32", "interpolation": "bicubic"}},
    "crop of zero": {"resize": {"size": 32, "interpolation": "bicubic", "crop_pct": 0.0}},
    "negative crop": {"resize": {"size": 32, "interpolation": "bicubic", "crop_pct": -0.9}},
    "unknown interpolation": {"resize": {"size": 32, "interpolation": "magic"}},
    "steps of another size": {"steps": [{"step": "resize", "width": 64, "height": 64, "filter": "bicubic"}]},
    "steps of another mean": {"steps": [{"step": "normalise", "scale": 1 / 255, "mean": [9, 9, 9], "std": [1, 1, 1]}]},
    "steps of no kind": {"steps": [3]},
}


@pytest.fixture
def model(artifacts: Path, tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes((artifacts / "model.onnx").read_bytes())
    return tmp_path / "model.onnx"


def refused(path: Path) -> str:
    """Both ways to read a card refuse it in one line."""
    reasons = []
    for read in (open_classifier, read_card):
        with pytest.raises(ConfigError, match="imgcls metadata are wrong") as caught:
            read(path)
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]
    assert "\n" not in reasons[0]
    return reasons[0]


@pytest.mark.parametrize("changes", CARDS.values(), ids=CARDS)
def test_wrong_cards_are_refused(changes: dict[str, object], model: Path) -> None:
    refused(edit_card(model, **changes))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 3', "[" * 10_000 + "]" * 10_000])
def test_damaged_cards_are_refused(text: str, model: Path) -> None:
    """Not as if there was none."""
    proto = onnx.load(model)
    helper.set_model_props(proto, {CARD_KEY: text})
    onnx.save(proto, model)
    refused(model)


def made(path: Path, card: str, *, inputs: list[Any], outputs: list[Any]) -> Path:
    """Write a model of the mean of each colour, with these inputs and outputs."""
    nodes = [
        helper.make_node("ReduceMean", [inputs[0].name], ["means"], axes=[2, 3], keepdims=0),
        *(helper.make_node("Identity", ["means"], [output.name]) for output in outputs),
    ]
    proto = helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(proto, {CARD_KEY: card})
    onnx.save(proto, path)
    return path


def tensor(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


IMAGES, LOGITS = tensor("images", "b", 3, 32, 32), tensor("logits", "b", 3)

INTERFACES: dict[str, tuple[list[Any], list[Any]]] = {
    "two outputs": ([IMAGES], [LOGITS, tensor("more", "b", 3)]),
    "another input name": ([tensor("pixels", "b", 3, 32, 32)], [LOGITS]),
    "two inputs": ([IMAGES, tensor("more", "b", 3)], [LOGITS]),
    "one colour": ([tensor("images", "b", 1, 32, 32)], [tensor("logits", "b", 1)]),
    "another size": ([tensor("images", "b", 3, 64, 64)], [LOGITS]),
}


@pytest.mark.parametrize(("inputs", "outputs"), INTERFACES.values(), ids=INTERFACES)
def test_other_interfaces_are_refused(inputs: list[Any], outputs: list[Any], model: Path, tmp_path: Path) -> None:
    card = json.dumps(json.loads(onnx.load(model).metadata_props[0].value))
    path = made(tmp_path / "made.onnx", card, inputs=inputs, outputs=outputs)
    with pytest.raises(ConfigError, match=r"is not a classifier of its imgcls metadata|not an ONNX model") as caught:
        open_classifier(path)
    assert "\n" not in str(caught.value)


def test_more_names_than_outputs_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"logits has shape \['batch', 3\], not \['batch', 4\]"):
        open_classifier(edit_card(model, class_names=["a", "b", "c", "d"]))


def test_open_sizes_are_checked_by_what_comes_out(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may leave its number of classes open."""
    monkeypatch.setattr(predict.Classifier, "logits", lambda _self, pixels: np.zeros((len(pixels), 2)))
    smooth_image(0).save(tmp_path / "photo.png")
    (row,) = classify(model, [tmp_path / "photo.png"])
    assert row.error == "the model has outputs of shape (2,) for 3 classes"


def test_a_model_that_fails_is_a_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_self: object, _pixels: object) -> None:
        message = "[ONNXRuntimeError] : 6 : absurd shape\nand more"
        raise RuntimeError(message)

    monkeypatch.setattr(predict.Classifier, "logits", fails)
    smooth_image(0).save(tmp_path / "photo.png")
    rows = list(classify(model, [tmp_path / "photo.png", tmp_path / "none.png"]))
    assert [row.error for row in rows] == [
        "the model failed: [ONNXRuntimeError] : 6 : absurd shape",
        "unreadable: No such file or directory",
    ]


def test_a_lack_of_memory_is_a_row(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> np.ndarray:
        raise MemoryError

    smooth_image(0).save(tmp_path / "photo.png")
    monkeypatch.setattr(predict, "load_square", full)
    assert [row.error for row in classify(model, [tmp_path / "photo.png"])] == ["not enough memory to decode it"]
    monkeypatch.setattr("imgcls.data.decode._decode_bytes", full)
    with pytest.raises(UndecodableError, match="not enough memory to decode it"):
        decode(tmp_path / "photo.png")


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="needs /proc/kmsg")
def test_endless_files_are_empty() -> None:
    with pytest.raises(UndecodableError, match=r"empty|unreadable"):
        decode(Path("/proc/kmsg"))
