"""Registry of the runtimes that can execute a trained model; importing it loads none of them."""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgcls.errors import ConfigError
from imgcls.inference.onnx_files.reading import check_file
from imgcls.inference.onnx_sessions import INSTALL, TENSORRT, nodes_by_provider, open_onnxruntime, open_openvino
from imgcls.inference.session import Images, Session
from imgcls.inference.torch_sessions import WEIGHTS, open_pytorch
from imgcls.messages import Setting
from imgcls.parallel import usable_cores

ONNX: Final = "model.onnx"

ONNX_INT8: Final = "model.int8.onnx"

ONNX_FP16: Final = "model.fp16.onnx"

OpenSession = Callable[[Path, int], Session]
"""Opens a session from a run's artifact folder and a number of threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """An entry of ``RUNTIMES``: the function that opens a session, its file, precision and required modules.

    ``provider`` is onnxruntime's, for the check that every heavy node ran on it.
    """

    open: OpenSession
    file: str
    modules: tuple[str, ...]
    precision: str = "fp32"
    cuda: bool = False
    default: bool = False
    install: str = "pip install -e ."
    provider: str | None = None


def _pytorch(*, cuda: bool = False, default: bool = False, precision: str = "fp32", **options: Any) -> Runtime:  # noqa: ANN401 - open_pytorch's own
    device = "cuda" if cuda else "cpu"
    return Runtime(
        open=functools.partial(open_pytorch, device=device, precision=precision, **options),
        file=WEIGHTS,
        modules=("torch", "timm"),
        precision=precision,
        cuda=cuda,
        default=default,
    )


def _onnxruntime(provider: str, *, default: bool = False, precision: str = "fp32", file: str = ONNX) -> Runtime:
    return Runtime(
        open=functools.partial(open_onnxruntime, provider=provider, file=file, precision=precision),
        file=file,
        modules=("onnxruntime", "tensorrt") if provider == TENSORRT else ("onnxruntime",),
        precision=precision,
        cuda=provider != "CPUExecutionProvider",
        default=default,
        install=INSTALL.get(provider, "pip install onnxruntime"),
        provider=provider,
    )


def _openvino(*, precision: str = "fp32", file: str = ONNX, hint: str = "f32") -> Runtime:
    return Runtime(
        open=functools.partial(open_openvino, file=file, precision=precision, hint=hint),
        file=file,
        modules=("openvino",),
        precision=precision,
        install="pip install -e '.[openvino]'",
    )


RUNTIMES: Final[dict[str, Runtime]] = {
    "pytorch-cpu": _pytorch(default=True),
    "pytorch-channels-last-cpu": _pytorch(channels_last=True),
    "pytorch-compile-cpu": _pytorch(compiled=True),
    "pytorch-cpu-bf16": _pytorch(precision="bf16"),
    "pytorch-cuda": _pytorch(cuda=True, default=True),
    "pytorch-channels-last-cuda": _pytorch(cuda=True, channels_last=True),
    "pytorch-compile-cuda": _pytorch(cuda=True, compiled=True),
    "pytorch-cuda-fp16": _pytorch(cuda=True, precision="fp16"),
    "pytorch-cuda-bf16": _pytorch(cuda=True, precision="bf16"),
    "onnxruntime-cpu": _onnxruntime("CPUExecutionProvider", default=True),
    "onnxruntime-cpu-int8": _onnxruntime("CPUExecutionProvider", precision="int8", file=ONNX_INT8),
    "onnxruntime-cuda": _onnxruntime("CUDAExecutionProvider", default=True),
    "onnxruntime-cuda-fp16": _onnxruntime("CUDAExecutionProvider", precision="fp16", file=ONNX_FP16),
    "onnxruntime-tensorrt": _onnxruntime(TENSORRT),
    # From the float32 file, which TensorRT converts itself.
    "onnxruntime-tensorrt-fp16": _onnxruntime(TENSORRT, precision="fp16"),
    "openvino-cpu": _openvino(),
    "openvino-cpu-bf16": _openvino(precision="bf16", hint="bf16"),
    # Quantised operators run in int8 whatever the precision hint, which applies to the other operators.
    "openvino-cpu-int8": _openvino(precision="int8", file=ONNX_INT8),
}
"""Runtimes by the name that ``RuntimeConfig.runtimes`` takes."""


def default_runtimes(*, cuda: bool) -> tuple[str, ...]:
    """Return the names of the default runtimes: PyTorch and ONNX Runtime on the CPU, and on CUDA if ``cuda``.

    Without those whose provider the installed onnxruntime lacks: some of its builds have no CUDA.
    """
    return tuple(
        name
        for name, runtime in RUNTIMES.items()
        if runtime.default and (not runtime.cuda or (cuda and _has_provider(runtime)))
    )


def _has_provider(runtime: Runtime) -> bool:
    if runtime.provider is None:
        return True
    import onnxruntime  # noqa: PLC0415 - only where there is a GPU

    return runtime.provider in onnxruntime.get_available_providers()


def check_runtimes(names: tuple[str, ...]) -> None:
    """Raise ConfigError if a name is not in ``RUNTIMES``, or needs a package that is not installed."""
    for name in names:
        if name not in RUNTIMES:
            raise ConfigError(Setting("runtimes", name), f": unknown; known: {', '.join(RUNTIMES)}")
        runtime = RUNTIMES[name]
        # find_spec, because importing every runtime takes seconds.
        if missing := [module for module in runtime.modules if importlib.util.find_spec(module) is None]:
            reason = f": needs {missing[0]}, which is not installed; {runtime.install}"
            raise ConfigError(Setting("runtimes", name), reason)
        if runtime.cuda and not _has_provider(runtime):
            reason = f": this onnxruntime has no {runtime.provider}; {runtime.install}"
            raise ConfigError(Setting("runtimes", name), reason)


def threads_allowed(threads: int) -> int:
    """Return the number of threads, for 0 all cores of this process; raises ConfigError if there are fewer cores."""
    cores = usable_cores()
    if threads > cores:
        raise ConfigError(Setting("threads", threads), f": this process may use {cores} cores; use 0 (all) to {cores}")
    return threads or cores


def check_artifact(runtime: str, folder: Path) -> None:
    """Raise ConfigError if a session should not open the file of a runtime, which may come from a stranger."""
    file = RUNTIMES[runtime].file
    # A missing file is reported when it is opened: after a missing device, which is the better reason.
    if file != WEIGHTS and (folder / file).exists():
        check_file(folder / file)


def open_session(runtime: str, folder: Path, *, threads: int, checked: bool = False) -> Session:
    """Open a run's artifacts in a runtime; raises RuntimeUnavailableError if it is not available.

    Unless they are ``checked``, raises ConfigError if ``check_artifact`` does. A measuring process gets checked files,
    because a check within it would be timed, and loads a library that is not measured.
    """
    if not checked:
        check_artifact(runtime, folder)
    return RUNTIMES[runtime].open(folder, threads or usable_cores())


def placement(runtime: str, folder: Path, images: Images) -> dict[str, int]:
    """Return the number of nodes that each provider of onnxruntime ran; empty for other runtimes.

    Raises RuntimeUnavailableError if a heavy operator did not run on the runtime's provider.
    """
    row = RUNTIMES[runtime]
    if row.provider is None:
        return {}
    opened = functools.partial(
        open_onnxruntime, folder, 1, provider=row.provider, file=row.file, precision=row.precision
    )
    return nodes_by_provider(lambda prefix: opened(profile=prefix), images, provider=row.provider)
