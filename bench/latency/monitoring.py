"""Disturbances of a measurement: other processes, steal, a slower clock or host, a throttled or shared GPU."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import psutil

from bench.records.environment import watch_others
from bench.records.measurements import Disturbance, GpuState
from imgcls.devices import visible_gpu

Answer = TypeVar("Answer")

ANCHOR_REPEATS: Final = 5

ANCHOR_SORTED: Final = 100_000

ANCHOR_BYTES: Final = 2**23
"""Size of the array that the anchor adds to itself: more than the private cache of a core holds."""

THROTTLES: Final = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")


SAMPLE_S: Final = 0.25
"""Seconds between two samples of a GPU's state."""

LOOK_BACK_S: Final = 1.0
"""Age up to which NVML is asked for the use of a GPU by processes, which it samples once a second or more often."""


def watch(gpu: "GpuMonitor | None" = None) -> Callable[[], Disturbance]:
    """Start monitoring; the returned function ends it and returns the disturbance in between."""
    anchor = anchor_ms()  # before the counters are read, so that these cover the measurement only
    others = watch_others()
    state_of_gpu = gpu.watch() if gpu is not None else None

    def finish() -> Disturbance:
        gpu_state = state_of_gpu() if state_of_gpu is not None else None
        others_share, steal_share = others()
        # psutil defines it only on systems that it supports.
        clock = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
        return Disturbance(
            others_share=others_share,
            steal_share=steal_share,
            cpu_mhz=round(clock.current, 1) if clock is not None and clock.current else None,
            gpu=gpu_state,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuMonitor:
    """Reads the state of the GPU that this process computes on; to be made before it does.

    ``device`` is NVML's handle, None if NVML does not find the GPU. ``before`` are the processes that had a context on
    it then, None if NVML does not list them.
    """

    device: Any
    before: frozenset[int] | None

    def watch(self) -> Callable[[], GpuState]:
        """Sample the state until the returned function is called, which returns all samples as one state."""
        samples, ended = [self.sample()], threading.Event()

        def run() -> None:
            while not ended.wait(SAMPLE_S):
                samples.append(self.sample())

        # A thread of this process and not the caller's process, so that samples belong to a row without clocks being
        # compared. NVML's calls release Python's lock.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def finish() -> GpuState:
            ended.set()
            thread.join()
            return together([*samples, self.sample()])

        return finish

    def sample(self) -> GpuState:
        """Return the present state; None for everything that NVML does not report."""
        import pynvml  # noqa: PLC0415 - needed on machines with a GPU only

        if self.device is None:
            return GpuState(samples=1)
        reasons = asked(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.device))
        power_mw = asked(lambda: pynvml.nvmlDeviceGetPowerUsage(self.device))
        return GpuState(
            clock_mhz=asked(lambda: pynvml.nvmlDeviceGetClockInfo(self.device, pynvml.NVML_CLOCK_SM)),
            temperature_c=asked(lambda: pynvml.nvmlDeviceGetTemperature(self.device, pynvml.NVML_TEMPERATURE_GPU)),
            power_w=None if power_mw is None else power_mw / 1e3,
            throttled=None
            if reasons is None
            else tuple(name for name in THROTTLES if reasons & getattr(pynvml, f"nvmlClocksThrottleReason{name}")),
            foreign_share=self._foreign_share(),
            samples=1,
        )

    def _foreign_share(self) -> float | None:
        """Return the share of the GPU's time that other processes used of late; None if NVML cannot tell."""
        import pynvml  # noqa: PLC0415

        now = contexts(self.device)
        own = None if now is None else self.own(now)
        if now is None or own is None:
            return None
        # A context alone disturbs nothing: the process that waits for this one has one, too.
        if now == own:
            return 0.0
        try:
            used = pynvml.nvmlDeviceGetProcessUtilization(self.device, int((time.time() - LOOK_BACK_S) * 1e6))
        except pynvml.NVMLError_NotFound:
            return 0.0  # no process computed since then
        except pynvml.NVMLError:
            return None
        return float(sum(process.smUtil for process in used if process.pid not in own)) / 100

    def own(self, now: frozenset[int]) -> frozenset[int] | None:
        """Return the id of this process among those with a context; None if it cannot be told."""
        new = now - (self.before or frozenset())
        if os.getpid() in new:
            return frozenset({os.getpid()})
        # In a container NVML lists the ids of the host: this process is then the only one that has come. If it were
        # another one, the first sample, when this process has a context already, would have had no answer.
        return new if self.before is not None and len(new) == 1 else None


def gpu_monitor() -> GpuMonitor:
    """Return a monitor of the GPU that CUDA shows to this process, which has no context on it yet."""
    import pynvml  # noqa: PLC0415

    gpu = visible_gpu()
    uuid = None if gpu is None else gpu.uuid
    # By UUID: NVML counts devices in another order than CUDA, and ignores CUDA_VISIBLE_DEVICES.
    device = None if uuid is None else asked(lambda: pynvml.nvmlDeviceGetHandleByUUID(uuid))
    return GpuMonitor(device=device, before=None if device is None else contexts(device))


def contexts(device: Any) -> frozenset[int] | None:  # noqa: ANN401 - NVML's handle
    """Return the ids of the processes with a compute context on a GPU; None if NVML does not list them."""
    import pynvml  # noqa: PLC0415

    return asked(lambda: frozenset(process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(device)))


def asked(query: Callable[[], Answer]) -> Answer | None:
    """Return the answer of NVML to one query, or None: a GPU need not support all of them."""
    import pynvml  # noqa: PLC0415

    try:
        return query()
    except pynvml.NVMLError:
        return None


def together(samples: Sequence[GpuState]) -> GpuState:
    """Return the worst of several samples; None for what no sample has, and for the others if one was not checked."""
    clocks = [sample.clock_mhz for sample in samples if sample.clock_mhz is not None]
    temperatures = [sample.temperature_c for sample in samples if sample.temperature_c is not None]
    powers = [sample.power_w for sample in samples if sample.power_w is not None]
    throttled = [sample.throttled for sample in samples if sample.throttled is not None]
    shares = [sample.foreign_share for sample in samples]
    seen = [share for share in shares if share is not None]
    return GpuState(
        clock_mhz=min(clocks, default=None),
        temperature_c=max(temperatures, default=None),
        power_w=max(powers, default=None),
        throttled=tuple(name for name in THROTTLES if any(name in names for names in throttled)) if throttled else None,
        # A share that was seen decides, whatever the other samples are.
        foreign_share=max(seen) if seen and (len(seen) == len(shares) or max(seen) > 0) else None,
        samples=len(samples),
    )
