"""Disturbances of a measurement: other processes, steal, a slower clock or host, a throttled or shared GPU."""

import time
from collections.abc import Callable
from typing import Final

import numpy as np
import psutil

from bench.records.environment import watch_others
from bench.records.measurements import Disturbance, GpuState

ANCHOR_REPEATS: Final = 5

ANCHOR_SORTED: Final = 100_000

ANCHOR_BYTES: Final = 2**23
"""Size of the array that the anchor adds to itself: more than the private cache of a core holds."""

THROTTLES: Final = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")


def watch(*, cuda: bool = False) -> Callable[[], Disturbance]:
    """Start monitoring; the returned function ends it and returns the disturbance in between."""
    anchor = anchor_ms()  # before the counters are read, so that these cover the measurement only
    others = watch_others()

    def finish() -> Disturbance:
        others_share, steal_share = others()
        # psutil defines it only on systems that it supports.
        clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return Disturbance(
            others_share=others_share,
            steal_share=steal_share,
            cpu_mhz=round(clock.current, 1) if clock is not None and clock.current else None,
            gpu=gpu_state() if cuda else None,
            anchor_ms=round(min(anchor, anchor_ms()), 4),
        )

    return finish


def anchor_ms() -> float:
    """Time a fixed piece of work on one thread, a sort and an addition in main memory.

    Returns the least of five times in ms. Other work on the machine can only add time, so the minimum is closest to the
    speed of the machine itself.
    """
    numbers = np.random.default_rng(0).random(ANCHOR_SORTED)
    array = np.ones(ANCHOR_BYTES // 8)
    times = []
    for _ in range(ANCHOR_REPEATS):
        began = time.perf_counter()
        np.sort(numbers)
        np.add(array, array, out=array)
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def gpu_state() -> GpuState | None:
    """Return the state of the first device from NVML; None if there is no device or NVML fails."""
    import pynvml  # noqa: PLC0415 - needed on machines with a GPU only

    try:
        pynvml.nvmlInit()
        device = pynvml.nvmlDeviceGetHandleByIndex(0)
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
        running = pynvml.nvmlDeviceGetComputeRunningProcesses(device)
        return GpuState(
            clock_mhz=pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM),
            temperature_c=pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU),
            power_w=pynvml.nvmlDeviceGetPowerUsage(device) / 1e3,
            throttled=tuple(name for name in THROTTLES if reasons & getattr(pynvml, f"nvmlClocksThrottleReason{name}")),
            # Counted, not recognised by its id: in a container this process has a different id from that in NVML.
            foreign_processes=max(0, len(running) - 1),
        )
    except pynvml.NVMLError:
        return None
