"""What a fresh process finds of a model in a runtime before it is timed: cold start, placement, parity."""

import hashlib
import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.environment import peak_memory_bytes
from bench.latency import PROTOCOL_VERSION, clock_ms
from bench.measuring import describe, noise
from bench.records import Check
from imgcls.errors import NoDeviceError, RuntimeUnavailableError
from imgcls.evaluation import load_predictions
from imgcls.parity import check_parity
from imgcls.predict import MADE_FROM, OPSET, card_of
from imgcls.runtimes import ONNX, ONNX_FP16, ONNX_INT8, RUNTIMES, open_session, placement
from imgcls.torch_sessions import WEIGHTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The cached pixels of a run's data (a ``.npy`` file of uint8 ``[N, S, S, 3]``), and which rows are whose."""

    pixels: str
    train_rows: tuple[int, ...]
    test_rows: tuple[int, ...]
    split_digest: str

    def open(self) -> NDArray[np.uint8]:
        """Map the pixels."""
        pixels: NDArray[np.uint8] = np.load(self.pixels, mmap_mode="r")
        return pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckTask:
    """One model in one runtime; without ``pictures`` there is no parity to check, and no int8."""

    runtime: str
    folder: str
    image_size: int
    onnx_sha256: str
    answer: str
    pictures: Pictures | None


def check_runtime(task: CheckTask) -> Check:
    """Open a model in a runtime for the first time, and see that it is what the run exported; never raises."""
    runtime = RUNTIMES[task.runtime]
    failed = Check(
        runtime=task.runtime, status="failed", protocol_version=PROTOCOL_VERSION, precision=runtime.precision
    )
    try:
        return _check(task, replace(failed, status="ok"))
    except NoDeviceError as error:
        return replace(failed, status="not measured", reason=str(error))
    except Exception as error:  # noqa: BLE001 - a runtime's failure is a row that says so, and the others still run
        return replace(failed, reason=describe(error))


def _check(task: CheckTask, check: Check) -> Check:
    folder, runtime = Path(task.folder), RUNTIMES[task.runtime]
    require_exported(folder / ONNX, task.onnx_sha256)
    if not (folder / runtime.file).exists():
        message = f"{runtime.file} is not there, and cannot be made without the run's images"
        raise RuntimeUnavailableError(message)
    marks = [clock_ms()]
    for module in runtime.modules:
        importlib.import_module(module)
    marks.append(clock_ms())
    session = open_session(task.runtime, folder, threads=1)
    marks.append(clock_ms())
    session.run(noise(1, task.image_size))
    session.synchronize()
    marks.append(clock_ms())
    import_ms, load_ms, first_ms = (round(float(took), 3) for took in np.diff(marks))
    check = replace(
        check,
        precision=session.precision,
        import_ms=import_ms,
        load_ms=load_ms,
        first_ms=first_ms,
        peak_memory_bytes=peak_memory_bytes(),
        size_bytes=(folder / runtime.file).stat().st_size,
        nodes=placement(task.runtime, folder, noise(1, task.image_size)),
        calibrated_on=calibration_of(folder / runtime.file) if runtime.file != WEIGHTS else None,
    )
    if task.pictures is None:
        return check
    trained = load_predictions(folder / "test_logits.npz")
    parity = check_parity(
        session.run,
        card_of(folder / ONNX),
        pixels=task.pictures.open(),
        rows=np.array(task.pictures.test_rows),
        trained=trained,
        precision=session.precision,
    )
    return replace(check, parity=parity, num_images=len(trained.labels), without_torch="torch" not in sys.modules)


def require_exported(path: Path, sha256: str) -> None:
    """Raise ConfigError or RuntimeUnavailableError where an ONNX file is not the one that the run exported."""
    card_of(path)
    opsets = {entry.domain: entry.version for entry in onnx.load(str(path), load_external_data=False).opset_import}
    if opsets.get("") != OPSET:
        message = f"{path.name} is of opset {opsets.get('')}, this project exports {OPSET}"
        raise RuntimeUnavailableError(message)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        message = f"{path.name} has sha256 {found[:16]}, the run exported {sha256[:16]}"
        raise RuntimeUnavailableError(message)


def calibration_of(path: Path) -> str | None:
    """Read from what a converted file was made: the digests of model and split."""
    props = {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}
    return props.get(MADE_FROM)


def convert(task: CheckTask) -> None:
    """Make the reduced-precision file that a runtime opens, unless the one of this model and split is there."""
    from imgcls.variants import ensure_fp16, ensure_int8  # noqa: PLC0415 - loads torch, which a check must not

    runtime, folder = RUNTIMES[task.runtime], Path(task.folder)
    require_exported(folder / ONNX, task.onnx_sha256)
    if runtime.file == ONNX_FP16:
        ensure_fp16(folder, identity=task.onnx_sha256)
    if runtime.file == ONNX_INT8 and task.pictures is not None:
        identity = f"{task.onnx_sha256} {task.pictures.split_digest}"
        ensure_int8(folder, task.pictures.open(), np.array(task.pictures.train_rows), identity=identity)
