"""CUDA devices: those that this process sees, and why PyTorch cannot use it; importing this loads no torch."""

import contextlib
import ctypes
import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

NO_DEVICE: Final = "no CUDA device"

NAME_BYTES: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """The first CUDA device that a process sees: a GPU, or a slice of one (MIG).

    ``uuid`` is that of NVML, with its prefix ``GPU-`` or ``MIG-``. ``uuid`` and ``driver`` are None if NVML does not
    find the device.
    """

    name: str
    uuid: str | None
    driver: str | None


def visible_gpu() -> Gpu | None:
    """Return the first device that CUDA shows to this process, or None; ``CUDA_VISIBLE_DEVICES`` may hide all."""
    cuda, count = _driver()
    if count == 0:
        return None
    device = ctypes.c_int()
    raw_name, raw_uuid = ctypes.create_string_buffer(NAME_BYTES), ctypes.create_string_buffer(16)
    # Version 2 returns the UUID of a slice, version 1 that of the whole GPU.
    if (
        cuda.cuDeviceGet(ctypes.byref(device), 0)
        or cuda.cuDeviceGetName(raw_name, NAME_BYTES, device)
        or cuda.cuDeviceGetUuid_v2(raw_uuid, device)
    ):
        return None
    return _as_in_nvml(raw_name.value.decode(), str(uuid.UUID(bytes=raw_uuid.raw)))


def visible_devices() -> tuple[str, ...]:
    """Return how ``CUDA_VISIBLE_DEVICES`` names each device that this process may use; () without one.

    These are the entries of the variable, or without it the numbers of the devices. Slices of GPUs (MIG) count only if
    the variable lists them: CUDA shows a process one of them at most.
    """
    _, count = _driver()
    if VISIBLE not in os.environ:
        return tuple(map(str, range(count)))
    listed = [entry.strip() for entry in os.environ[VISIBLE].split(",")]
    # CUDA ignores what follows an entry that is no device.
    slices = count == 1 and all(entry.startswith("MIG-") for entry in listed)
    return tuple(listed if slices else listed[:count])


def _driver() -> tuple[Any, int]:
    """Return the driver's library, and the number of devices that it shows to this process."""
    # By the driver's own interface (CUDA Driver API, "Device Management"): NVML counts in another order and ignores
    # the environment, and torch must not be loaded by processes that time other runtimes.
    try:
        cuda: Any = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None, 0
    count = ctypes.c_int()
    failed = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    return cuda, 0 if failed else count.value


def _as_in_nvml(name: str, device: str) -> Gpu:
    import pynvml  # noqa: PLC0415 - needed on machines with a GPU only

    try:
        pynvml.nvmlInit()
        driver = str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return Gpu(name=name, uuid=None, driver=None)
    for prefix in ("GPU-", "MIG-"):
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(prefix + device)
        except pynvml.NVMLError:
            continue
        if prefix == "MIG-" and "MIG" not in name:
            name = f"{name} {_slice(handle)}"
        return Gpu(name=name, uuid=prefix + device, driver=driver)
    return Gpu(name=name, uuid=None, driver=driver)


def _slice(handle: object) -> str:
    """Return the profile of a MIG device, such as ``MIG 1g.10gb``: slices of the same GPU are not equally fast."""
    import pynvml  # noqa: PLC0415

    try:
        attributes = pynvml.nvmlDeviceGetAttributes(handle)
    except pynvml.NVMLError:
        return "MIG"
    return f"MIG {attributes.gpuInstanceSliceCount}g.{round(attributes.memorySizeMB / 1024)}gb"


def installed_gpus() -> int:
    """Return the number of NVIDIA GPUs of this machine, also of those that CUDA does not show to this process."""
    import pynvml  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def usable_cuda() -> bool:
    """Return whether PyTorch can compute on a CUDA device of this machine."""
    return _cuda_available() and _has_kernels()


def unusable_gpu() -> str | None:
    """Return why PyTorch cannot compute on a GPU that this machine has; None if it can, or if there is none."""
    import torch  # noqa: PLC0415 - slow to import

    version = f"PyTorch {torch.__version__}"
    if _cuda_available():
        if _has_kernels():
            return None
        major, minor = torch.cuda.get_device_capability()
        has = ", ".join(torch.cuda.get_arch_list())
        return f"{version} has no code for the {torch.cuda.get_device_name()} (sm_{major}{minor}; it has {has})"
    if not installed_gpus():
        return None
    if VISIBLE in os.environ and visible_gpu() is None:
        return f"{VISIBLE}={os.environ[VISIBLE]} shows no GPU to this process"
    if torch.version.cuda is None:
        return f"{version} is built without CUDA, so that it cannot use the GPU of this machine"
    import pynvml  # noqa: PLC0415

    driver = pynvml.nvmlSystemGetDriverVersion()
    return f"{version} (CUDA {torch.version.cuda}) cannot use the GPU of this machine with driver {driver}"


def _cuda_available() -> bool:
    import torch  # noqa: PLC0415

    with warnings.catch_warnings():
        # About a driver that is too old; ``unusable_gpu`` says it in one line.
        warnings.simplefilter("ignore")
        return torch.cuda.is_available()


def _has_kernels() -> bool:
    """Return whether this build of PyTorch contains code for the visible device.

    Machine code (``sm_XY``) runs on devices of the same major version and at least that minor one, intermediate code
    (``compute_XY``) on all later devices (CUDA C++ Programming Guide, "Compute Capabilities").
    """
    import torch  # noqa: PLC0415

    major, minor = torch.cuda.get_device_capability()
    for arch in torch.cuda.get_arch_list():
        kind, _, digits = arch.partition("_")
        # A suffix marks code for one version only (sm_90a), which other builds accompany by the general one.
        if not digits.isdigit():
            continue
        version = divmod(int(digits), 10)
        if kind == "compute" and version <= (major, minor):
            return True
        if kind == "sm" and version[0] == major and version[1] <= minor:
            return True
    return False


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 convolutions and products in float32 on CUDA, and restore the former settings afterwards.

    TF32 has 10 bits of mantissa (NVIDIA A100 whitepaper); PyTorch uses it in convolutions by default.
    """
    import torch  # noqa: PLC0415

    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
