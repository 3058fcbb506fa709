"""Checks of a model in a runtime before it is timed: identity of its files, node placement, parity."""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.latency.cold_start import CheckTask, ColdStart, noise
from bench.latency.protocol import PROTOCOL_VERSION
from bench.latency.round_worker import reason_of
from bench.records.measurements import Check
from bench.records.paths import Pictures
from imgcls.data.sources.file_names import unescape
from imgcls.data.stores.files import FileStore, Pixels
from imgcls.errors import ConfigError, NoDeviceError, RuntimeUnavailableError
from imgcls.evaluation.predictions import Predictions, load_predictions, predictions_file
from imgcls.inference.card import MADE_FROM, OPSET, Card, metadata_of, read_card
from imgcls.inference.parity import check_parity
from imgcls.inference.runtimes import ONNX, ONNX_FP16, ONNX_INT8, RUNTIMES, check_artifact, placement
from imgcls.inference.synthetic import SYNTHETIC, load_synthetic
from imgcls.inference.torch_sessions import WEIGHTS

CONVERTED: Final = (ONNX_INT8, ONNX_FP16)


def check_runtime(task: CheckTask, cold: ColdStart | Exception) -> Check:
    """Check a model in a runtime: the identity of its files, the placement of its nodes, and its parity.

    ``cold`` is its cold start in this process, or the exception that the cold start raised. Never raises: a failure
    is returned as a check with a status and a reason.
    """
    # Read first, so that it describes the process as the cold start left it.
    without_torch = "torch" not in sys.modules
    runtime = RUNTIMES[task.runtime]
    failed = Check(
        runtime=task.runtime,
        status="failed",
        protocol_version=PROTOCOL_VERSION,
        precision=runtime.precision,
        inputs=task.inputs,
    )
    try:
        _require_files(task)
        if isinstance(cold, Exception):
            raise cold  # noqa: TRY301 - after the files: a wrong file explains a failed start better
        check = _compared(task, cold, _check(task, cold, replace(failed, status="ok")))
        return replace(check, without_torch=without_torch)
    except NoDeviceError as error:
        return replace(failed, status="not measured", reason=str(error))
    except Exception as error:  # noqa: BLE001 - one runtime's failure must not stop the others
        return replace(failed, reason=reason_of(error))


def _check(task: CheckTask, cold: ColdStart, check: Check) -> Check:
    folder, file = Path(task.folder), RUNTIMES[task.runtime].file
    return replace(
        check,
        precision=cold.session.precision,
        import_ms=cold.import_ms,
        load_ms=cold.load_ms,
        first_ms=cold.first_ms,
        peak_memory_bytes=cold.peak_memory_bytes,
        size_bytes=(folder / file).stat().st_size,
        nodes=placement(task.runtime, folder, noise(1, task.image_size)),
        made_from=None if file == WEIGHTS else metadata_of(folder / file).get(MADE_FROM),
    )


def _compared(task: CheckTask, cold: ColdStart, check: Check) -> Check:
    """Compare the logits with the trained model's on the inputs of the task; without any, return the check as it is."""
    card = read_card(Path(task.folder) / ONNX)
    reference = _reference(task, card)
    if reference is None:
        return check
    pixels, rows, trained = reference
    precision = cold.session.precision
    parity = check_parity(cold.session.run, card, pixels=pixels, rows=rows, trained=trained, precision=precision)
    if task.inputs == "synthetic":
        # Without true classes there is no accuracy, and none may be read from the check later.
        parity = replace(parity, only_trained_right=None, only_runtime_right=None)
    return replace(check, parity=parity, num_images=len(rows))


def _reference(task: CheckTask, card: Card) -> tuple[Pixels, NDArray[np.int64], Predictions] | None:
    """Return images, their rows, and the trained model's predictions for them; None if they are not available."""
    folder = Path(task.folder)
    if task.inputs == "synthetic":
        if not (folder / SYNTHETIC).exists():
            return None
        inputs, trained = load_synthetic(folder, card.resize.size)
        return inputs, np.arange(len(inputs)), trained
    if task.pictures is None:
        return None
    pixels = _pixels(task.pictures)
    return pixels, np.array(task.pictures.test_rows), load_predictions(predictions_file(folder, "test"))


def _pixels(pictures: Pictures) -> Pixels:
    if pictures.pixels is None:
        return FileStore(root=Path(unescape(pictures.root)), names=pictures.names, resize=pictures.resize)
    # Mapped, not read: the file holds all splits, and only some rows are needed.
    stored: NDArray[np.uint8] = np.load(pictures.pixels, mmap_mode="r")
    return stored


def _require_files(task: CheckTask) -> None:
    folder, file = Path(task.folder), RUNTIMES[task.runtime].file
    # For PyTorch too: the parity check takes the preprocessing from the metadata of the ONNX file.
    require_exported(folder / ONNX, task.onnx_sha256)
    if not (folder / file).exists():
        raise RuntimeUnavailableError(_missing(task, file))
    # A prefix: the identity of an int8 file continues with the split digest, which is unknown without images.
    if file in CONVERTED and not metadata_of(folder / file).get(MADE_FROM, "").startswith(task.onnx_sha256):
        message = f"{file} was made from another model and could not be created again"
        raise RuntimeUnavailableError(message)


def _missing(task: CheckTask, file: str) -> str:
    if task.inputs == "test":
        return f"{file} does not exist and could not be created from the run's images"
    made = f", where measure --runtimes {task.runtime} creates it" if file in CONVERTED else ""
    return f"{file} is not among the copied artifacts; copy it from the training machine{made}"


def require_exported(path: Path, sha256: str) -> None:
    """Raise ConfigError or RuntimeUnavailableError if an ONNX file is not the one that the run exported."""
    read_card(path)  # first: its errors name a missing or damaged file, those of onnx.load do not
    opsets = {entry.domain: entry.version for entry in onnx.load(str(path), load_external_data=False).opset_import}
    if opsets.get("") != OPSET:
        message = f"{path.name} has opset {opsets.get('')}, but this project exports {OPSET}"
        raise RuntimeUnavailableError(message)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        message = f"{path.name} has sha256 {digest[:16]}, but the run exported {sha256[:16]}"
        raise RuntimeUnavailableError(message)


def refusal(runtime: str, folder: Path) -> str | None:
    """Return why no session may open the file of a runtime, or None; for a process in which nothing is timed."""
    try:
        check_artifact(runtime, folder)
    except ConfigError as error:
        return str(error).replace(f"{folder}{os.sep}", "")  # it becomes part of a record
    return None


def convert(task: CheckTask) -> None:
    """Write the reduced-precision file that a runtime opens, unless it exists for this model and split."""
    from imgcls.inference.quantisation import ensure_fp16, ensure_int8  # noqa: PLC0415 - loads torch, which a check must not

    file, folder = RUNTIMES[task.runtime].file, Path(task.folder)
    require_exported(folder / ONNX, task.onnx_sha256)
    if file == ONNX_FP16:
        ensure_fp16(folder, identity=task.onnx_sha256)
    if file == ONNX_INT8 and task.pictures is not None:
        identity = f"{task.onnx_sha256} {task.pictures.split_digest}"
        pixels = _pixels(task.pictures)
        ensure_int8(folder, pixels, np.array(task.pictures.train_rows), identity=identity)
