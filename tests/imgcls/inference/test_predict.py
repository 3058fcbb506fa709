"""Prediction from exported files: classes, their order, probabilities, and what is refused."""

import contextlib
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from imgcls import parallel
from imgcls.data.decode import load_square
from imgcls.errors import ConfigError, DataError
from imgcls.inference import predict
from imgcls.inference.predict import Classifier, PhotoPrediction, classify, open_classifier
from tests.helpers.cards import edit_card
from tests.helpers.images import smooth_image


@pytest.fixture
def model(artifacts: Path) -> Path:
    return artifacts / "model.onnx"


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """As many photos as make several batches, the last of them not full."""
    paths = [tmp_path / f"{number}.png" for number in range(21)]
    for number, path in enumerate(paths):
        smooth_image(number).save(path)
    return paths


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded, in the order of their decoding."""
    seen: list[Path] = []

    def load(path: Path, resize: Any) -> Any:
        seen.append(path)
        return load_square(path, resize)

    monkeypatch.setattr(predict, "load_square", load)
    return seen


def logits_of(predictions: list[PhotoPrediction]) -> Any:
    return np.stack([prediction.logits for prediction in predictions if prediction.logits is not None])


def softmax(logits: Any) -> Any:
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_batches_answer_as_single_photos(model: Path, photos: list[Path]) -> None:
    together = list(classify(model, photos))
    assert [prediction.photo for prediction in together] == [str(photo) for photo in photos]
    alone = logits_of([prediction for photo in photos for prediction in classify(model, [photo])])
    assert np.abs(logits_of(together) - alone).max() < 1e-4 * np.abs(alone).max()
    assert len({prediction.probability for prediction in together}) == len(photos)


def test_classes_are_ranked_by_probability(model: Path, photos: list[Path]) -> None:
    for prediction in classify(model, photos[:3], top_k=3):
        assert prediction.logits is not None
        order = np.argsort(-prediction.logits)
        assert [one.class_name for one in prediction.predictions] == ["abc"[row] for row in order]
        shares = [one.probability for one in prediction.predictions]
        assert shares == pytest.approx(softmax(prediction.logits)[order].tolist())
        assert (prediction.class_name, prediction.probability) == prediction.predictions[0]


def test_a_temperature_calibrates_probabilities(model: Path, photos: list[Path], tmp_path: Path) -> None:
    cooled = edit_card(model, tmp_path / "m.onnx", temperature=0.25)
    plain, sharp = classify([model, cooled], photos[:1])
    assert (plain.calibrated, sharp.calibrated) == (False, True)
    assert np.array_equal(logits_of([plain]), logits_of([sharp]))
    assert plain.probability == pytest.approx(softmax(logits_of([plain])).max())
    assert sharp.probability == pytest.approx(softmax(logits_of([plain]) / 0.25).max())


def test_models_share_a_decoded_photo(model: Path, photos: list[Path], decoded: list[Path], tmp_path: Path) -> None:
    twin = edit_card(model, tmp_path / "twin.onnx", temperature=2.0)
    other = edit_card(model, tmp_path / "other.onnx", resize={"size": 32, "interpolation": "nearest"}, steps=[])
    predictions = list(classify([model, other, twin], photos))
    assert sorted(decoded) == sorted(photos * 2), "once for each way of resizing"
    assert [(one.photo, one.model) for one in predictions] == [
        (str(photo), str(path)) for photo in photos for path in (model, other, twin)
    ]
    for place, path in enumerate((model, other, twin)):
        alone = logits_of(list(classify(path, photos)))
        assert np.abs(logits_of(predictions[place::3]) - alone).max() < 1e-4 * np.abs(alone).max()


def test_a_bad_photo_does_not_stop_the_others(model: Path, photos: list[Path], tmp_path: Path) -> None:
    photos[9].write_text("not an image")
    photos[20] = tmp_path / "none.png"
    predictions = list(classify(model, photos))
    reasons = {place: prediction.error for place, prediction in enumerate(predictions) if prediction.error is not None}
    assert reasons == {9: "not an image", 20: "unreadable: No such file or directory"}
    assert predictions[9].predictions == ()
    assert predictions[10].logits == pytest.approx(next(classify(model, photos[10:])).logits, abs=1e-4)
    with pytest.raises(DataError, match=r"9\.png: not an image"):
        _ = predictions[9].class_name


def test_logits_that_are_not_finite_are_an_error(
    model: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "logits", lambda _self, pixels: np.full((len(pixels), 3), np.nan, np.float32))
    (prediction,) = classify(model, photos[:1])
    assert prediction.error == "the model's logits are not finite"


CORES = parallel.usable_cores()
MOST_AHEAD = (parallel.AHEAD * CORES + 1) * predict.BATCH
"""Photos in the batches that are handed to threads before the first prediction."""


def test_few_photos_are_decoded_ahead(
    model: Path, photos: list[Path], decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Future[Any]] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            handed.append(super().submit(*args, **kwargs))
            return handed[-1]

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    with contextlib.closing(classify(model, photos * CORES * 50)) as predictions:
        next(predictions)
        for batch in handed:
            batch.result()
        assert predict.BATCH < len(decoded) <= MOST_AHEAD
        assert len(handed) * predict.BATCH <= MOST_AHEAD


def test_closing_drops_what_is_not_begun(
    model: Path, photos: list[Path], decoded: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every batch but the first lasts until those that are not begun have been dropped."""
    dropped, load, before = threading.Event(), predict.load_square, set(threading.enumerate())
    by_thread: dict[int, list[Path]] = defaultdict(list)

    def slow(path: Path, resize: Any) -> Any:
        pixels, done = load(path, resize), by_thread[threading.get_ident()]
        done.append(path)
        assert done == photos[: predict.BATCH][: len(done)] or dropped.wait(60)
        return pixels

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - theirs
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            dropped.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(predict, "load_square", slow)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Pool)
    predictions = classify(model, photos * CORES * 50)
    next(predictions)
    predictions.close()
    assert dropped.is_set()
    assert set(threading.enumerate()) <= before, "a thread is left that could decode more"
    assert predict.BATCH <= len(decoded) <= (1 + CORES) * predict.BATCH < MOST_AHEAD


@pytest.mark.parametrize("top_k", [0, 4])
def test_too_many_or_no_classes_are_refused(model: Path, photos: list[Path], top_k: int) -> None:
    with pytest.raises(ConfigError, match=rf"top_k is {top_k}; .*model\.onnx has 3 classes, use 1 to 3"):
        classify(model, photos, top_k=top_k)


def test_foreign_onnx_file_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        open_classifier(tmp_path / "none.onnx")
    data = model.read_bytes()
    for length in (0, 9, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        with pytest.raises(ConfigError, match="not an ONNX model that can be read"):
            open_classifier(tmp_path / "cut.onnx")
    foreign = onnx.load(model)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "plain.onnx")
    with pytest.raises(ConfigError, match="no imgcls metadata"):
        classify([model, tmp_path / "plain.onnx"], [])
