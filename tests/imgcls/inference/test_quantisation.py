"""Parity checks in fresh processes, and the int8 and float16 files."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from bench.comparison.latencies.acceptance import acceptance
from bench.latency.cold_start import CheckTask
from bench.latency.protocol import PROTOCOL_VERSION
from bench.latency.worker import WORKER
from bench.processes.starting import launch
from bench.records.measurements import Check
from bench.records.paths import Pictures
from bench.records.store import write_json
from imgcls.data.decode import Resize
from imgcls.errors import ParityError
from imgcls.evaluation.predictions import Predictions, save_predictions
from imgcls.evaluation.results import Parity
from imgcls.inference.card import Card, preprocess, read_card
from imgcls.inference.parity import check_parity, parity_of
from imgcls.inference.quantisation import CALIBRATION_IMAGES, calibration_rows, ensure_fp16, ensure_int8
from imgcls.inference.runtimes import ONNX, ONNX_FP16, ONNX_INT8, open_session
from imgcls.inference.session import Images, Logits
from imgcls.models.weights import sha256_of

IMAGES = 40


@pytest.fixture
def run(artifacts: Path, tmp_path: Path) -> Path:
    """A run's folder with artifacts, pixels, and the logits of the trained model on the test split."""
    folder = tmp_path / "run"
    shutil.copytree(artifacts, folder)
    pixels = np.random.default_rng(0).integers(0, 256, (2 * IMAGES, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    logits = open_session("pytorch-cpu", folder, threads=1).run(preprocess(pixels[IMAGES:], read_card(folder / ONNX)))
    names = tuple(f"a/{number}.png" for number in range(IMAGES))
    trained = Predictions(image_ids=names, labels=logits.argmax(axis=1), logits=logits)
    save_predictions(trained, folder / "test_logits.npz")
    return folder


def check(run: Path, runtime: str, *, convert: bool = False, sha256: str | None = None) -> Check:
    """Convert and check a model in separate processes, as ``bench measure`` does."""
    task = CheckTask(
        runtime=runtime,
        folder=str(run),
        image_size=32,
        threads=1,
        onnx_sha256=sha256 or sha256_of(run / ONNX),
        result_file=str(run / "check.json"),
        pictures=Pictures(
            pixels=str(run / "pixels.npy"),
            resize=Resize(size=32, interpolation="bilinear"),
            train_rows=tuple(range(IMAGES)),
            test_rows=tuple(range(IMAGES, 2 * IMAGES)),
            split_digest="s",
        ),
    )
    write_json(task, run / "check.task")
    if convert:
        assert launch([WORKER, "convert", str(run / "check.task")]) == 0
    assert launch([WORKER, "check", str(run / "check.task")]) == 0
    return msgspec.json.decode((run / "check.json").read_bytes(), type=Check)


def test_fresh_process_repeats_trained_logits(run: Path) -> None:
    found = check(run, "onnxruntime-cpu")
    assert (found.status, found.without_torch, found.num_images) == ("ok", True, IMAGES)
    assert found.parity is not None
    assert found.parity.max_rel_logit_error < 1e-4
    assert found.parity.batch_rel_error is not None
    assert found.parity.batch_rel_error < 1e-4
    assert found.import_ms is not None
    assert found.import_ms > 1
    assert found.load_ms is not None
    assert found.peak_memory_bytes is not None
    assert found.peak_memory_bytes < 400 * 2**20
    assert check(run, "pytorch-cpu").without_torch is False


def test_int8_is_made_once(run: Path) -> None:
    found = check(run, "onnxruntime-cpu-int8", convert=True)
    assert (found.status, found.precision) == ("ok", "int8")
    assert found.parity is not None
    assert found.parity.max_rel_logit_error > 1e-4
    assert str(found.made_from).endswith(" s")
    operators = {node.op_type for node in onnx.load(run / ONNX_INT8).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    before = (run / ONNX_INT8).stat().st_mtime_ns
    check(run, "onnxruntime-cpu-int8", convert=True)
    assert (run / ONNX_INT8).stat().st_mtime_ns == before


def test_calibration_uses_fixed_training_images() -> None:
    train = np.arange(100, 2000)
    rows = calibration_rows(train)
    assert len(rows) == len(set(rows.tolist())) == CALIBRATION_IMAGES
    assert set(rows.tolist()) <= set(train.tolist())
    assert (rows == calibration_rows(train)).all()


def test_calibration_images_decide_int8(run: Path) -> None:
    pixels = np.load(run / "pixels.npy")
    ensure_int8(run, pixels, np.arange(IMAGES), identity="one")
    one = open_session("onnxruntime-cpu-int8", run, threads=1).run(preprocess(pixels[:4], read_card(run / ONNX)))
    ensure_int8(run, pixels // 16, np.arange(IMAGES), identity="two")
    two = open_session("onnxruntime-cpu-int8", run, threads=1).run(preprocess(pixels[:4], read_card(run / ONNX)))
    assert np.abs(one - two).max() > 0


def test_float16_keeps_float32_input_and_card(run: Path) -> None:
    path = ensure_fp16(run, identity="x")
    model = onnx.load(path)
    assert path.name == ONNX_FP16
    assert {tensor.data_type for tensor in model.graph.initializer} >= {onnx.TensorProto.FLOAT16}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert read_card(path) == read_card(run / ONNX)


def test_changed_onnx_file_is_reported(run: Path) -> None:
    whole = (run / ONNX).read_bytes()
    sha256 = sha256_of(run / ONNX)
    (run / ONNX).write_bytes(whole[: len(whole) // 2])
    assert "not an ONNX model that can be read" in str(check(run, "onnxruntime-cpu", sha256=sha256).reason)
    model = onnx.load_from_string(whole)
    model.opset_import[0].version = 19
    onnx.save(model, run / ONNX)
    assert "has opset 19, but this project exports 20" in str(check(run, "onnxruntime-cpu", sha256=sha256).reason)
    model = onnx.load_from_string(whole)
    model.doc_string = "changed"
    onnx.save(model, run / ONNX)
    assert "the run exported" in str(check(run, "onnxruntime-cpu", sha256=sha256).reason)
    del model.metadata_props[:]
    onnx.save(model, run / ONNX)
    found = check(run, "onnxruntime-cpu", sha256=sha256)
    assert found.status == "failed"
    assert "carries no imgcls metadata" in str(found.reason)


def test_int8_of_another_model_is_refused(run: Path) -> None:
    ensure_int8(run, np.load(run / "pixels.npy"), np.arange(IMAGES), identity="other s")
    found = check(run, "onnxruntime-cpu-int8")
    assert found.status == "failed"
    assert "made from another model" in str(found.reason)


def test_missing_int8_is_reported(run: Path) -> None:
    assert "model.int8.onnx does not exist" in str(check(run, "onnxruntime-cpu-int8").reason)


CARD = Card(
    version=1,
    model="m",
    weights_tag="random",
    class_names=("a", "b"),
    resize=None,  # type: ignore[arg-type] # not used by preprocess
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


def plain(images: Images) -> Logits:
    sums = images.mean(axis=(1, 2, 3), dtype=np.float64)
    return np.stack([sums, -sums], axis=1).astype(np.float32)


def trained() -> Predictions:
    logits = plain(preprocess(PIXELS, CARD))
    return Predictions(image_ids=tuple(map(str, range(40))), labels=logits.argmax(axis=1), logits=logits)


def uneven(error: float) -> Callable[[Images], Logits]:
    """Return a model whose logits are larger by the relative ``error`` in a batch than for a single image."""
    return lambda images: plain(images) * np.float32(1 + error * (len(images) > 1))


def test_batch_dependent_model_fails() -> None:
    with pytest.raises(ParityError, match="batch 1 and batch 32 differ"):
        check_parity(uneven(5e-4), CARD, pixels=PIXELS, rows=np.arange(40), trained=trained())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_dependence_on_the_batch_of_a_reduced_precision_is_reported(precision: str) -> None:
    """An int8 network may have float32 functions between its integer kernels, whose rounding changes an integer."""
    model = uneven(5e-4)
    found = check_parity(model, CARD, pixels=PIXELS, rows=np.arange(40), trained=trained(), precision=precision)
    assert found.batch_rel_error == pytest.approx(5e-4, rel=0.2)


def test_rounding_between_batch_sizes_passes() -> None:
    found = check_parity(uneven(2.3e-5), CARD, pixels=PIXELS, rows=np.arange(40), trained=trained())
    assert found.batch_rel_error == pytest.approx(2.3e-5, rel=0.2)


def test_changed_answers_are_counted_and_listed() -> None:
    predictions = trained()
    logits = predictions.logits.copy()
    logits[:3] = -logits[:3]
    parity = parity_of(logits, predictions)
    assert (parity.only_trained_right, parity.only_runtime_right) == (3, 0)
    assert [flip.image_id for flip in parity.flips] == ["0", "1", "2"]
    assert parity.cosine is not None
    assert parity.cosine < 1
    back = parity_of(
        predictions.logits, Predictions(image_ids=predictions.image_ids, labels=predictions.labels, logits=logits)
    )
    assert (back.only_trained_right, back.only_runtime_right) == (0, 3)


def test_nonfinite_logit_fails() -> None:
    logits = trained().logits.copy()
    logits[0, 0] = np.nan
    with pytest.raises(ParityError, match="not finite"):
        parity_of(logits, trained())


@pytest.mark.parametrize(
    ("lost", "gained", "images", "word"),
    [
        (0, 0, 100, "too few images to tell"),
        (0, 0, 1000, "accepted"),
        (60, 10, 1000, "refused"),
        (12, 10, 1000, "too few images to tell"),
        (10, 30, 1000, "accepted"),
    ],
)
def test_acceptance_of_a_reduced_precision(lost: int, gained: int, images: int, word: str) -> None:
    parity = Parity(
        max_rel_logit_error=0.1,
        top1_agreement=0.9,
        flips=(),
        only_trained_right=lost,
        only_runtime_right=gained,
    )
    row = Check(
        runtime="onnxruntime-cpu-int8",
        status="ok",
        protocol_version=PROTOCOL_VERSION,
        precision="int8",
        parity=parity,
        num_images=images,
    )
    assert acceptance(row).word == word


def test_check_worker_imports_no_runtime() -> None:
    code = "import bench.latency.worker, bench.latency.cold_start, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "onnxruntime", "openvino", "timm"} & set(json.loads(done.stdout))
