"""Ways to run a trained model behind one small face; torch is imported only by the PyTorch ones."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.data.parallel import usable_cores
from imgcls.errors import ConfigError, RuntimeUnavailableError

WEIGHTS: Final = "model.safetensors"
ONNX: Final = "model.onnx"


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An open model: ``run`` maps host float32 ``[B, 3, S, S]`` to host logits ``[B, C]``.

    ``provider`` and ``num_threads`` are read back from what really runs, never copied from what was asked.
    """

    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    synchronize: Callable[[], None]
    provider: str
    precision: str
    num_threads: int


OpenSession = Callable[[Path, int], Session]
"""From a run's artifact folder and a number of threads."""


def _nothing() -> None:
    return None


def open_pytorch(folder: Path, threads: int, *, device: str) -> Session:
    """Open the checkpoint in eager PyTorch, float32, TF32 off."""
    import torch  # noqa: PLC0415 - the other runtimes must not pay for it

    from imgcls.models import load_trained  # noqa: PLC0415

    if device == "cuda" and not torch.cuda.is_available():
        message = "pytorch-cuda: no CUDA device here"
        raise RuntimeUnavailableError(message)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    model = load_trained(folder / WEIGHTS).to(device)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(images).to(device)).cpu().numpy()
        return logits

    return Session(
        run=run,
        synchronize=torch.cuda.synchronize if device == "cuda" else _nothing,
        provider=next(model.parameters()).device.type,
        precision="fp32",
        num_threads=torch.get_num_threads(),
    )


def open_onnxruntime(folder: Path, threads: int, *, provider: str) -> Session:
    """Open the ONNX file with exactly one provider; a silent fall-back to another is an error."""
    import onnxruntime  # noqa: PLC0415

    if provider not in onnxruntime.get_available_providers():
        message = f"{provider} is not in this build of onnxruntime"
        raise RuntimeUnavailableError(message)
    if provider.startswith("CUDA"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # a provider that fails is read back below, and becomes a failed row
    provider_options = {"use_tf32": "0"} if provider.startswith("CUDA") else {}
    session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=[(provider, provider_options)])
    ran = session.get_providers()[0]
    if ran != provider:
        message = f"{provider} was asked for and {ran} ran"
        raise RuntimeUnavailableError(message)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(None, {"images": images})[0], dtype=np.float32)

    return Session(
        run=run,
        synchronize=_nothing,
        provider=ran,
        precision="fp32",
        num_threads=session.get_session_options().intra_op_num_threads,
    )


RUNTIMES: Final[dict[str, OpenSession]] = {
    "pytorch-cpu": functools.partial(open_pytorch, device="cpu"),
    "pytorch-cuda": functools.partial(open_pytorch, device="cuda"),
    "onnxruntime-cpu": functools.partial(open_onnxruntime, provider="CPUExecutionProvider"),
    "onnxruntime-cuda": functools.partial(open_onnxruntime, provider="CUDAExecutionProvider"),
}
"""Runtimes by the name that ``--runtimes`` takes."""


def default_runtimes(*, cuda: bool) -> tuple[str, ...]:
    """Name the runtimes of the CPU, and those of CUDA where there is a device."""
    return tuple(name for name in RUNTIMES if cuda or not name.endswith("cuda"))


def check_runtimes(names: tuple[str, ...]) -> None:
    """Raise ConfigError for a name that is not in ``RUNTIMES``."""
    if unknown := [name for name in names if name not in RUNTIMES]:
        message = f"--runtimes {unknown[0]}: unknown; known: {', '.join(RUNTIMES)}"
        raise ConfigError(message)


def open_session(runtime: str, folder: Path, *, threads: int) -> Session:
    """Open a run's artifacts in a runtime; raises RuntimeUnavailableError where it cannot be had."""
    return RUNTIMES[runtime](folder, threads or usable_cores())
