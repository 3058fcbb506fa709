"""Reduced-precision variants of an exported model: static int8 (QDQ) and float16."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from imgcls.data.stores.files import Pixels
from imgcls.errors import RunError
from imgcls.files import write_aside
from imgcls.inference.card import MADE_FROM, metadata_of, preprocess, read_card
from imgcls.inference.onnx_files.reading import check_file
from imgcls.inference.runtimes import ONNX, ONNX_FP16, ONNX_INT8

CALIBRATION_IMAGES: Final = 256

CALIBRATION_BATCH: Final = 16


def calibration_rows(train_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Choose at most 256 training images at random, the same ones for all models on a split."""
    # Sorted, so that the memmap is read in order.
    count = min(CALIBRATION_IMAGES, len(train_rows))
    return np.sort(np.random.default_rng(0).choice(train_rows, count, replace=False))


def ensure_int8(folder: Path, pixels: Pixels, train_rows: NDArray[np.int64], *, identity: str) -> Path:
    """Quantise a run's exported model, unless the file of this ``identity`` (model and split) exists.

    Static quantisation by onnxruntime, per channel, in QDQ format, with int8 weights and uint8 activations (int8
    activations are 3 to 8 x slower on x86). Min-max calibration on the training images ``pixels``, uint8
    ``[N, S, S, 3]``, at ``train_rows``, preprocessed as in evaluation.
    """

    def quantise(prepared: Path, path: Path) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static  # noqa: PLC0415 - slow to import

        quantize_static(
            str(prepared),
            str(path),
            _reader(folder / ONNX, pixels, calibration_rows(train_rows)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )

    return _ensure(folder, ONNX_INT8, quantise, identity=identity)


def ensure_fp16(folder: Path, *, identity: str) -> Path:
    """Convert a run's exported model to float16 with float32 input and output."""

    def halve(prepared: Path, path: Path) -> None:
        from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

        onnx.save(convert_float_to_float16(onnx.load(str(prepared)), keep_io_types=True), str(path))

    return _ensure(folder, ONNX_FP16, halve, identity=identity)


def _ensure(folder: Path, name: str, convert: Callable[[Path, Path], None], *, identity: str) -> Path:
    path = folder / name
    if path.exists() and metadata_of(path).get(MADE_FROM) == identity:
        return path
    check_file(folder / ONNX)  # the conversion opens sessions of it
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    # Shape inference and graph optimisation before conversion, as onnxruntime recommends.
    with tempfile.TemporaryDirectory() as aside, _quiet():
        prepared, converted = Path(aside) / "prepared.onnx", Path(aside) / name
        try:
            quant_pre_process(str(folder / ONNX), str(prepared))
            convert(prepared, converted)
        except Exception as error:  # the converters document no exceptions
            message = f"{name} cannot be created: {type(error).__name__}: {error}"
            raise RunError(message) from error
        model = onnx.load(str(converted))
        # With the card, so that the file can be used alone.
        onnx.helper.set_model_props(model, metadata_of(folder / ONNX) | {MADE_FROM: identity})
        write_aside(path, lambda target: onnx.save(model, str(target)))
    return path


def _reader(model: Path, pixels: Pixels, rows: NDArray[np.int64]) -> object:
    """Return a reader of calibration images in batches, normalised as in the model's card."""
    from onnxruntime.quantization import CalibrationDataReader  # noqa: PLC0415

    card = read_card(model)
    batches = (
        {"images": preprocess(pixels[rows[start : start + CALIBRATION_BATCH]], card)}
        for start in range(0, len(rows), CALIBRATION_BATCH)
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime requires a subclass
        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(batches, None)

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
