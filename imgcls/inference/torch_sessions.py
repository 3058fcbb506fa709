"""Sessions of PyTorch: eager, channels_last, compiled; in float32 without TF32, or in a reduced precision."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from imgcls.devices import NO_DEVICE, unusable_gpu, usable_cuda
from imgcls.errors import NoDeviceError, RuntimeUnavailableError
from imgcls.inference.session import Images, Logits, Session, nothing

if TYPE_CHECKING:
    import torch

WEIGHTS: Final = "model.safetensors"

DTYPES: Final = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}

COMPILE_MODE: Final = "default"

FIRST_DELAY: Final = 2_000_000
"""Cycles of the delay kernel, about a millisecond; doubled until a forward pass is queued within it."""

LAST_DELAY: Final = 2**10 * FIRST_DELAY


def open_pytorch(  # noqa: PLR0913 - each may differ between entries of RUNTIMES
    folder: Path,
    threads: int,
    *,
    device: str,
    precision: str = "fp32",
    channels_last: bool = False,
    compiled: bool = False,
) -> Session:
    """Open the checkpoint; raises RuntimeUnavailableError if the device or another requirement is missing."""
    import torch  # noqa: PLC0415 - the other runtimes must not load it

    from imgcls.models.building import load_deployed  # noqa: PLC0415

    _require(device, precision, compiled=compiled)
    _set_threads(threads)
    # TF32 has 10 bits of mantissa: its errors may exceed the parity limit of float32.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    layout = torch.channels_last if channels_last else torch.contiguous_format
    dtype = getattr(torch, DTYPES[precision])
    # First to the device, which converts faster than the host does.
    model: Any = load_deployed(folder / WEIGHTS).to(device).to(dtype=dtype).to(memory_format=layout)
    # Device and precision are read back from a parameter, not copied from the arguments.
    real = next(model.parameters())
    forward = torch.compile(model, mode=COMPILE_MODE, dynamic=False) if compiled else model

    def to_device(images: Images) -> "torch.Tensor":
        # In float32 first: ``to(device, dtype)`` converts on the host, at the price of a pass over all pixels.
        return torch.from_numpy(images).to(device).to(dtype=dtype, memory_format=layout)

    def run(images: Images) -> Logits:
        with torch.inference_mode():
            logits: Logits = forward(to_device(images)).float().cpu().numpy()
        return logits

    return Session(
        run=run,
        synchronize=torch.cuda.synchronize if device == "cuda" else nothing,
        provider=real.device.type,
        precision=next(name for name, dtype_name in DTYPES.items() if getattr(torch, dtype_name) is real.dtype),
        num_threads=torch.get_num_threads(),
        settings=_settings(channels_last=channels_last, compiled=compiled),
        device_timer=device_timer(forward, to_device) if device == "cuda" else None,
    )


def _settings(*, channels_last: bool, compiled: bool) -> dict[str, str]:
    import torch  # noqa: PLC0415

    return {
        "inter-op threads": str(torch.get_num_interop_threads()),
        "memory format": "channels_last" if channels_last else "contiguous",
        "TF32": "on" if torch.backends.cuda.matmul.allow_tf32 else "off",
        "compile": COMPILE_MODE if compiled else "no",
    }


def _require(device: str, precision: str, *, compiled: bool) -> None:
    import torch  # noqa: PLC0415

    if device == "cuda" and not usable_cuda():
        raise NoDeviceError(unusable_gpu() or NO_DEVICE)
    if device == "cpu" and precision != "fp32" and not torch.cpu._is_amx_tile_supported():  # noqa: SLF001 - no public function
        message = f"{precision} gains nothing on this CPU: it has no AMX"
        raise RuntimeUnavailableError(message)
    # On CUDA, Triton compiles the function that launches its kernels.
    names, language = (("c++", "g++", "clang++"), "C++") if device == "cpu" else (("cc", "gcc", "clang"), "C")
    if compiled and not any(map(shutil.which, names)):
        message = f"torch.compile needs a {language} compiler; install {names[1]} or clang"
        raise RuntimeUnavailableError(message)
    if compiled and device == "cuda" and importlib.util.find_spec("triton") is None:
        message = "torch.compile needs Triton on CUDA; pip install triton"
        raise RuntimeUnavailableError(message)


def _set_threads(threads: int) -> None:
    """Set the same number of threads within operators (intra-op) and between them (inter-op)."""
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    # torch allows this call once per process, and raises RuntimeError afterwards.
    if torch.get_num_interop_threads() != threads:
        torch.set_num_interop_threads(threads)


def device_timer(
    forward: "Callable[[torch.Tensor], torch.Tensor]", to_device: "Callable[[Images], torch.Tensor]"
) -> Callable[[Images], Callable[[], float]]:
    """Return a timer of one forward pass on the device, by CUDA events, of images that are already there.

    A delay kernel before the first event keeps the device waiting until all kernels are queued, so that the time
    contains none of the gaps in which it waits for the host to launch the next one.
    """
    import torch  # noqa: PLC0415

    def prepare(images: Images) -> Callable[[], float]:
        on_device = to_device(np.ascontiguousarray(images))
        event: Any = torch.cuda.Event
        start, end = event(enable_timing=True), event(enable_timing=True)
        delay_cycles = FIRST_DELAY

        def once() -> float:
            nonlocal delay_cycles
            while True:
                with torch.inference_mode():
                    torch.cuda._sleep(delay_cycles)  # type: ignore[no-untyped-call]  # noqa: SLF001 - has no public name
                    start.record()
                    forward(on_device)
                    end.record()
                queued = not start.query()
                end.synchronize()
                # Repeated with a longer delay if the device had begun before the host was done. A forward pass that
                # waits for the device never is: from the longest delay on, its gaps are part of it.
                if queued or delay_cycles >= LAST_DELAY:
                    return float(start.elapsed_time(end))
                delay_cycles *= 2

        return once

    return prepare
