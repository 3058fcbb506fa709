"""The state of a GPU during a measurement, from NVML. Without a GPU, by stand-ins."""

import os
from dataclasses import replace

import pytest

from bench.latency.monitoring import GpuMonitor, gpu_monitor, together, watch
from bench.records.measurements import GpuState
from tests.helpers.gpus import Machine
from tests.helpers.waiting import until

OTHER = 1


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Another process has a context already; this one has none."""
    made = Machine(pids=[OTHER])
    made.install(monkeypatch)
    return made


@pytest.fixture
def monitor(machine: Machine) -> GpuMonitor:
    """This process has a context since the monitor was made."""
    made = gpu_monitor()
    machine.pids.append(os.getpid())
    return made


def test_every_query_is_independent(machine: Machine, monitor: GpuMonitor) -> None:
    machine.reasons = 0b101
    state = monitor.sample()
    assert (state.clock_mhz, state.temperature_c, state.power_w) == (1980, 60, 250.0)
    assert state.throttled == ("SwPowerCap", "SwThermalSlowdown")
    machine.refused = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetCurrentClocksThrottleReasons"}
    state = monitor.sample()
    assert (state.clock_mhz, state.power_w, state.throttled, state.foreign_share) == (1980, None, None, 0.0)


def test_own_and_idle_contexts_are_no_disturbance(machine: Machine, monitor: GpuMonitor) -> None:
    assert monitor.sample().foreign_share == 0.0
    machine.utilisation = {os.getpid(): 99}
    assert monitor.sample().foreign_share == 0.0
    machine.utilisation = {os.getpid(): 60, OTHER: 35}
    assert monitor.sample().foreign_share == 0.35


def test_process_of_a_container_is_the_one_that_came(machine: Machine) -> None:
    """NVML lists the ids of the host, which a process in a container does not know."""
    monitor = gpu_monitor()
    machine.pids += [77]
    machine.utilisation = {77: 90}
    assert monitor.sample().foreign_share == 0.0
    # Of two that came, neither is known to be this one.
    machine.pids += [78]
    assert monitor.sample().foreign_share is None


def test_a_lone_context_needs_no_utilisation(machine: Machine) -> None:
    """Slices of a GPU have none; without another context there is nothing to measure."""
    machine.pids = []
    monitor = gpu_monitor()
    machine.pids = [os.getpid()]
    machine.refused = {"nvmlDeviceGetProcessUtilization"}
    assert monitor.sample().foreign_share == 0.0
    machine.pids += [OTHER]
    assert monitor.sample().foreign_share is None


def test_context_is_counted_only_once_there_is_one(machine: Machine) -> None:
    monitor = gpu_monitor()
    assert monitor.own(frozenset(machine.pids)) is None
    machine.pids.append(os.getpid())
    assert monitor.own(frozenset(machine.pids)) == {os.getpid()}


@pytest.mark.parametrize("refused", ["nvmlDeviceGetHandleByUUID", "nvmlDeviceGetComputeRunningProcesses"])
def test_what_nvml_does_not_tell_was_not_checked(refused: str, machine: Machine) -> None:
    machine.refused = {refused}
    assert gpu_monitor().sample().foreign_share is None


def test_samples_are_taken_during_a_round(monitor: GpuMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.latency.monitoring.SAMPLE_S", 0.001)
    # Neither the first nor the last sample sees the other process.
    shares, taken = iter([0.0, 0.4, 0.4]), list[float]()

    def sample(_self: GpuMonitor) -> GpuState:
        taken.append(next(shares, 0.0))
        return GpuState(foreign_share=taken[-1], samples=1)

    monkeypatch.setattr(GpuMonitor, "sample", sample)
    finish = watch(monitor)
    until(lambda: len(taken) > 3, what="samples of the thread")
    gpu = finish().gpu
    assert gpu is not None
    assert (gpu.samples, gpu.foreign_share) == (len(taken), 0.4)


def test_samples_become_the_worst_state() -> None:
    quiet = GpuState(clock_mhz=1980, temperature_c=50, power_w=200.0, throttled=(), foreign_share=0.0, samples=1)
    slow = ("HwSlowdown",)
    hot = GpuState(clock_mhz=1200, temperature_c=80, power_w=300.0, throttled=slow, foreign_share=0.1, samples=1)
    assert together([quiet, hot, quiet]) == replace(hot, samples=3)
    unknown = GpuState(samples=1)
    assert together([unknown, unknown]) == GpuState(samples=2)
    # One sample without an answer: the others prove nothing, unless one saw other processes.
    assert together([quiet, unknown]).foreign_share is None
    assert together([hot, unknown]).foreign_share == 0.1
