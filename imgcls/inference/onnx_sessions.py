"""Sessions of ONNX files: ONNX Runtime on CPU, CUDA and TensorRT, and OpenVINO on the CPU; without torch."""

import contextlib
import hashlib
import importlib
import importlib.metadata
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from imgcls.devices import NO_DEVICE, visible_gpu
from imgcls.errors import ConfigError, NoDeviceError, RuntimeUnavailableError
from imgcls.inference.card import read_card
from imgcls.inference.session import Images, Logits, Session
from imgcls.messages import Setting

HEAVY: Final = ("Conv", "Gemm", "MatMul")
"""Operators whose name contains one of these must run on the requested provider; shape arithmetic need not."""

TENSORRT: Final = "TensorrtExecutionProvider"

INSTALL: Final = {
    "CUDAExecutionProvider": "pip install 'onnxruntime-gpu[cuda,cudnn]'",
    # onnxruntime opens libnvinfer.so.10, which later major versions of TensorRT do not contain.
    TENSORRT: "pip install 'onnxruntime-gpu[cuda,cudnn]' 'tensorrt<11'",
}
"""What brings a provider and the libraries that it loads."""

# TF32 and fp16 are off, because a runtime with precision fp32 must compute in float32.
PROVIDER_OPTIONS: Final[dict[str, dict[str, str]]] = {
    "CPUExecutionProvider": {},
    "CUDAExecutionProvider": {"use_tf32": "0"},
    TENSORRT: {"trt_fp16_enable": "0"},
}

TENSORRT_BATCHES: Final = (1, 32, 128)
"""Least, usual and largest batch of the profile that a TensorRT engine is built for."""

ENGINES: Final = "tensorrt"
"""Folder beside an ONNX file with the engines that were built from it."""

CUDA_LIBRARIES: Final = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu13")

SILENT: Final = 4
"""Log level of onnxruntime (fatal errors only); a provider that fails is detected by reading the provider back."""


def open_onnxruntime(  # noqa: PLR0913 - each may differ between entries of RUNTIMES
    folder: Path, threads: int, *, provider: str, file: str, precision: str = "fp32", profile: Path | None = None
) -> Session:
    """Open an ONNX file with exactly one provider.

    With ``profile``, onnxruntime writes the provider of each node to a file with that prefix when the session ends.
    Raises RuntimeUnavailableError if the provider is not available, or another one runs.
    """
    import onnxruntime  # noqa: PLC0415

    require_provider(provider)
    options = _options(threads, profile)
    chosen = PROVIDER_OPTIONS[provider] | (_engine_options(folder / file, precision) if provider == TENSORRT else {})
    session = onnxruntime.InferenceSession(str(folder / file), options, providers=[(provider, chosen)])
    # onnxruntime falls back to the CPU with only a log line.
    ran = session.get_providers()[0]
    if ran != provider:
        message = f"{provider} was requested, but {ran} ran{_other_cuda()}; {INSTALL.get(provider, 'see its log')}"
        raise RuntimeUnavailableError(message)

    def run(images: Images) -> Logits:
        if provider == TENSORRT and len(images) > TENSORRT_BATCHES[-1]:
            # Without a profile onnxruntime would build another engine, within a timed query.
            reason = f": the TensorRT engine has a profile for batches of 1 to {TENSORRT_BATCHES[-1]}"
            raise ConfigError(Setting("batch_size", len(images)), reason)
        return np.asarray(session.run(None, {"images": images})[0], dtype=np.float32)

    read_back = session.get_session_options()
    # TensorRT does not report it, and is set by the environment in ``_require``; a CPU has no TF32.
    tf32 = session.get_provider_options().get(provider, {}).get("use_tf32", "0")
    return Session(
        run=run,
        provider=ran,
        precision=precision,
        num_threads=read_back.intra_op_num_threads,
        settings={
            "inter-op threads": str(read_back.inter_op_num_threads),
            "spinning": read_back.get_session_config_entry("session.intra_op.allow_spinning"),
            "graph optimisation": str(read_back.graph_optimization_level).rsplit(".", maxsplit=1)[-1],
            "TF32": "off" if tf32 == "0" else "on",
        }
        | ({"engine profile": "batches of {} to {}".format(*TENSORRT_BATCHES[::2])} if provider == TENSORRT else {}),
        device_timer=None if provider == "CPUExecutionProvider" else _bound_timer(session),
    )


def _options(threads: int, profile: Path | None) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return session options in which everything that affects the speed is set explicitly, defaults included."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.log_severity_level = SILENT
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options


def require_provider(provider: str) -> None:
    """Load what a provider needs; raises RuntimeUnavailableError if that, a device or the provider itself is missing.

    The message names the command that installs it.
    """
    import onnxruntime  # noqa: PLC0415

    if provider not in onnxruntime.get_available_providers():
        message = f"this onnxruntime has no {provider}; {INSTALL.get(provider, 'reinstall onnxruntime')}"
        raise RuntimeUnavailableError(message)
    if provider == "CPUExecutionProvider":
        return
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT's provider has no option for it
    if visible_gpu() is None:
        raise NoDeviceError(NO_DEVICE)
    # Loads the CUDA libraries of the nvidia-* packages, which are not on the library path.
    onnxruntime.preload_dlls()
    if provider == TENSORRT:
        _load_tensorrt()


def _load_tensorrt() -> None:
    """Load TensorRT's libraries, which are in its Python package and not on the library path."""
    try:
        # onnxruntime opens libnvinfer.so.10 by that name, which is found once it is loaded.
        importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        message = f"{TENSORRT} needs TensorRT 10 ({error}); {INSTALL[TENSORRT]}"
        raise RuntimeUnavailableError(message) from error


def _other_cuda() -> str:
    """Return a remark if onnxruntime was built for another CUDA than that of the installed libraries, else nothing."""
    import onnxruntime  # noqa: PLC0415

    # Builds for the CPU have no such attribute.
    built = str(getattr(onnxruntime, "cuda_version", "")).partition(".")[0]
    installed = []
    for package in CUDA_LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed.append(importlib.metadata.version(package).partition(".")[0])
    if not built or built in installed:
        return ""
    other = f"the installed packages have those of CUDA {', '.join(installed)}" if installed else "no package has them"
    return f": it needs the libraries of CUDA {built}, and {other}"


def _engine_options(path: Path, precision: str) -> dict[str, str]:
    """Return the options with which an engine is built once for a file, and read from then on.

    The engine that is timed is then the one whose parity was checked. See ONNX Runtime's documentation, "TensorRT
    Execution Provider", for the keys.
    """
    import onnxruntime  # noqa: PLC0415

    size = read_card(path).resize.size
    # onnxruntime names engines by the graph alone: without the digest, those of other weights would be read.
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    versions = f"{onnxruntime.__version__}-{importlib.metadata.version('tensorrt')}"
    engines = path.parent / ENGINES / f"{digest}-{precision}-{versions}"
    engines.mkdir(parents=True, exist_ok=True)
    shapes = {
        f"trt_profile_{which}_shapes": f"images:{batch}x3x{size}x{size}"
        for which, batch in zip(("min", "opt", "max"), TENSORRT_BATCHES, strict=True)
    }
    return shapes | {
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
    }


def _bound_timer(session: Any) -> Callable[[Images], Callable[[], float]]:  # noqa: ANN401 - onnxruntime has no types
    """Return a timer of runs whose input and output stay on the device (IO binding)."""
    # By the host's clock, because onnxruntime's Python interface has no CUDA events.
    import onnxruntime  # noqa: PLC0415

    def prepare(images: Images) -> Callable[[], float]:
        binding = session.io_binding()
        binding.bind_ortvalue_input("images", onnxruntime.OrtValue.ortvalue_from_numpy(images, "cuda", 0))
        binding.bind_output("logits", "cuda", 0)

        def once() -> float:
            started = time.perf_counter()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return (time.perf_counter() - started) * 1e3

        return once

    return prepare


def nodes_by_provider(open_profiled: Callable[[Path], Session], images: Images, *, provider: str) -> dict[str, int]:
    """Run once with onnxruntime's profiler, and return the number of nodes that each provider ran.

    Raises RuntimeUnavailableError if a heavy operator did not run on ``provider``.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_profiled(Path(folder) / "profile")
        session.run(images)
        del session  # the profile is written when the session is destroyed
        events = json.loads(next(Path(folder).iterdir()).read_text(encoding="utf-8"))
    nodes = {
        event["name"]: (event["args"]["provider"], event["args"]["op_name"])
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    strays = [op for ran, op in nodes.values() if ran != provider and any(heavy in op for heavy in HEAVY)]
    # An empty profile would prove nothing.
    if strays or not nodes:
        message = f"{provider} was requested, but {len(strays)} of {len(nodes)} nodes ran elsewhere ({strays[:3]})"
        raise RuntimeUnavailableError(message)
    return dict(Counter(ran for ran, _ in nodes.values()))


def open_openvino(folder: Path, threads: int, *, file: str, precision: str = "fp32", hint: str = "f32") -> Session:
    """Open an ONNX file in OpenVINO on the CPU; raises RuntimeUnavailableError if it cannot run with ``hint``."""
    import openvino  # noqa: PLC0415

    core = openvino.Core()
    if hint == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        message = "bf16 gains nothing on this CPU: OpenVINO lists no BF16 for it"
        raise RuntimeUnavailableError(message)
    # The precision is set because OpenVINO otherwise uses bf16 silently if the CPU has it. One stream, because queries
    # come one at a time.
    config = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(folder / file), "CPU", config)
    ran = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if ran != hint:
        message = f"{hint} was requested, but OpenVINO runs {ran}"
        raise RuntimeUnavailableError(message)
    request = compiled.create_infer_request()

    def run(images: Images) -> Logits:
        return np.array(request.infer({"images": images})[0], dtype=np.float32)

    return Session(
        run=run,
        provider=",".join(compiled.get_property("EXECUTION_DEVICES")),
        precision=precision,
        num_threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
        settings={"streams": str(compiled.get_property("NUM_STREAMS")), "precision hint": ran},
    )
