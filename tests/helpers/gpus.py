"""Stand-ins for NVIDIA's driver and NVML, for machines without a GPU."""

import ctypes
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


class NVMLError(Exception):
    """What a query raises that a GPU does not support."""


class NotFoundError(NVMLError):
    """What a query for recent samples raises if there are none."""


@dataclass(kw_only=True)
class Machine:
    """A machine with one GPU: what its driver and NVML answer. ``refused`` names queries that are not supported."""

    name: str = "NVIDIA H200"
    prefix: str = "GPU-"
    driver: str = "580.65.06"
    visible: int = 1
    pids: list[int] = field(default_factory=list)
    utilisation: dict[int, int] = field(default_factory=dict)
    """Per cent of the GPU's time that each process used of late."""
    reasons: int = 0
    refused: set[str] = field(default_factory=set)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the driver and NVML in place."""
        library = ctypes.CDLL
        libcuda = SimpleNamespace(
            cuInit=lambda _flags: 0,
            cuDeviceGetCount=lambda count: _set(count, self.visible),
            cuDeviceGet=lambda device, _index: _set(device, 0),
            cuDeviceGetName=self._name,
            cuDeviceGetUuid_v2=self._uuid,
        )
        patch.setattr(
            ctypes,
            "CDLL",
            lambda name, *rest, **more: libcuda if "cuda.so" in str(name) else library(name, *rest, **more),
        )
        patch.setitem(sys.modules, "pynvml", self._nvml())

    def _name(self, buffer: Any, _size: int, _device: object) -> int:
        buffer.value = self.name.encode()
        return 0

    def _uuid(self, buffer: Any, _device: object) -> int:
        buffer.raw = UUID.bytes
        return 0

    def _nvml(self) -> ModuleType:
        module = ModuleType("pynvml")
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: self.driver,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByUUID": self._handle,
            "nvmlDeviceGetAttributes": lambda _: SimpleNamespace(gpuInstanceSliceCount=1, memorySizeMB=10_240),
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _: self.reasons,
            "nvmlDeviceGetComputeRunningProcesses": lambda _: [SimpleNamespace(pid=pid) for pid in self.pids],
            "nvmlDeviceGetProcessUtilization": self._used,
            "nvmlDeviceGetClockInfo": lambda _, _kind: 1980,
            "nvmlDeviceGetTemperature": lambda _, _kind: 60,
            "nvmlDeviceGetPowerUsage": lambda _: 250_000,
        }
        for name, answer in answers.items():
            setattr(module, name, self._asked(name, answer))
        names = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
        for bit, name in enumerate(names):
            setattr(module, f"nvmlClocksThrottleReason{name}", 1 << bit)
        vars(module).update(
            NVMLError=NVMLError, NVMLError_NotFound=NotFoundError, NVML_CLOCK_SM=1, NVML_TEMPERATURE_GPU=0
        )
        return module

    def _asked(self, name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def query(*arguments: object) -> Any:
            if name in self.refused:
                raise NVMLError(name)
            return answer(*arguments)

        return query

    def _handle(self, name: str) -> str:
        if name != f"{self.prefix}{UUID}":
            raise NVMLError(name)
        return "device"

    def _used(self, _device: object, _since: int) -> list[SimpleNamespace]:
        if not self.utilisation:
            raise NotFoundError
        return [SimpleNamespace(pid=pid, smUtil=share) for pid, share in self.utilisation.items()]


def _set(pointer: Any, value: int) -> int:
    pointer._obj.value = value  # noqa: SLF001 - what ctypes.byref refers to
    return 0


def usable_by_torch(patch: pytest.MonkeyPatch, *, capability: tuple[int, int] = (9, 0), usable: bool = True) -> None:
    """Let torch report a CUDA device of this compute capability, or none."""
    for name, answer in {
        "is_available": usable,
        "get_device_capability": capability,
        "get_device_name": "NVIDIA H200",
        "get_arch_list": ["sm_75", "sm_80", "sm_90", "sm_90a", "compute_120"],
    }.items():
        patch.setattr(f"torch.cuda.{name}", lambda *_, answer=answer: answer)


class Event:
    """A CUDA event on the host's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self.at = clock, 0.0

    def record(self) -> None:
        self.at = self._clock()

    def synchronize(self) -> None:
        """All work of the host is done when it returns."""

    def query(self) -> bool:
        return False

    def elapsed_time(self, end: "Event") -> float:
        return 1e3 * (end.at - self.at)
