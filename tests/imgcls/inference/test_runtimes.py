"""Runtimes: equal logits, recorded settings, and an error instead of a silent fallback."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from bench.latency.monitoring import gpu_state
from imgcls.errors import ConfigError, RuntimeUnavailableError
from imgcls.inference import onnx_sessions, runtimes
from imgcls.inference.runtimes import (
    RUNTIMES,
    check_runtimes,
    default_runtimes,
    open_session,
    placement,
    threads_allowed,
)
from imgcls.parallel import usable_cores

CPU = ["pytorch-cpu", "pytorch-channels-last-cpu", "pytorch-compile-cpu", "onnxruntime-cpu", "openvino-cpu"]
NOISE = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("runtime", CPU)
def test_float32_runtimes_repeat_eager_logits(artifacts: Path, runtime: str) -> None:
    if any(importlib.util.find_spec(module) is None for module in RUNTIMES[runtime].modules):
        pytest.skip(f"{runtime} is not installed")
    trained = open_session("pytorch-cpu", artifacts, threads=1).run(NOISE)
    session = open_session(runtime, artifacts, threads=1)
    error = np.abs(session.run(NOISE) - trained).max() / np.abs(trained).max()
    assert error < 1e-4
    assert session.provider in {"cpu", "CPUExecutionProvider", "CPU"}
    assert (session.precision, session.num_threads) == ("fp32", 1)
    assert session.settings


def test_settings_name_what_decides_speed(artifacts: Path) -> None:
    eager = open_session("pytorch-cpu", artifacts, threads=1).settings
    assert (eager["memory format"], eager["TF32"], eager["compile"]) == ("contiguous", "off", "no")
    assert open_session("pytorch-channels-last-cpu", artifacts, threads=1).settings["memory format"] == "channels_last"
    exported = open_session("onnxruntime-cpu", artifacts, threads=1).settings
    assert exported["graph optimisation"] == "ORT_ENABLE_ALL"
    assert exported["spinning"] == "1"


THREADS = """
import sys
from pathlib import Path
from imgcls.inference.runtimes import open_session
import psutil
session = open_session(sys.argv[1], Path(sys.argv[2]), threads=2)
print(session.num_threads, session.settings["inter-op threads"])
"""


@pytest.mark.parametrize("runtime", ["pytorch-cpu", "onnxruntime-cpu"])
def test_thread_count_applies_to_both_pools(artifacts: Path, runtime: str) -> None:
    command = [sys.executable, "-c", THREADS, runtime, str(artifacts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "2"]


def test_zero_threads_are_all_usable_cores() -> None:
    cores = usable_cores()
    assert threads_allowed(0) == cores
    assert threads_allowed(1) == 1
    with pytest.raises(ConfigError, match=rf"threads={cores + 1}: this process may use {cores} cores; use 0"):
        threads_allowed(cores + 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_bounds_the_threads() -> None:
    code = "import os; os.sched_setaffinity(0, {0})\n"
    code += "from imgcls.inference.runtimes import threads_allowed\nprint(threads_allowed(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("runtime", [name for name, row in RUNTIMES.items() if row.cuda])
def test_cuda_without_a_device_is_refused(artifacts: Path, runtime: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"no CUDA device|has no .*ExecutionProvider; pip install"):
        open_session(runtime, artifacts, threads=1)


def test_provider_fallback_is_an_error(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnx_sessions, "cuda_devices", lambda: 1)
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: real(path, options, providers=["CPUExecutionProvider"]),  # noqa: ARG005
    )
    with pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider was requested, but CPUExecution"):
        open_session("onnxruntime-cuda", artifacts, threads=1)


def test_missing_provider_says_what_to_install(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(
        RuntimeUnavailableError, match="no TensorrtExecutionProvider; pip install onnxruntime-gpu tensor"
    ):
        open_session("onnxruntime-tensorrt", artifacts, threads=1)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(RUNTIMES["openvino-cpu"], modules=("no_such_package",))
    monkeypatch.setitem(runtimes.RUNTIMES, "openvino-cpu", missing)
    with pytest.raises(
        ConfigError, match=r"needs no_such_package, which is not installed; pip install -e '.\[openvino"
    ):
        check_runtimes(("openvino-cpu",))


def test_unknown_runtime_is_refused() -> None:
    with pytest.raises(ConfigError, match='runtimes="tpu": unknown; known: pytorch-cpu, '):
        check_runtimes(("pytorch-cpu", "tpu"))


def test_default_runtimes() -> None:
    assert default_runtimes(cuda=False) == ("pytorch-cpu", "onnxruntime-cpu")
    assert default_runtimes(cuda=True) == ("pytorch-cpu", "pytorch-cuda", "onnxruntime-cpu", "onnxruntime-cuda")


def test_profile_contains_every_node(artifacts: Path) -> None:
    found = placement("onnxruntime-cpu", artifacts, NOISE[:1])
    assert set(found) == {"CPUExecutionProvider"}
    assert found["CPUExecutionProvider"] > 10
    assert placement("pytorch-cpu", artifacts, NOISE[:1]) == {}


@pytest.mark.parametrize(("op", "fails"), [("Conv", True), ("QLinearConv", True), ("Shape", False)])
def test_heavy_node_elsewhere_is_an_error(op: str, fails: bool) -> None:  # noqa: FBT001
    def opened(prefix: Path) -> Any:
        events = [
            {"cat": "Node", "name": f"n{i}", "args": {"provider": provider, "op_name": name}}
            for i, (provider, name) in enumerate([("CUDAExecutionProvider", "Conv"), ("CPUExecutionProvider", op)])
        ]
        prefix.with_suffix(".json").write_text(json.dumps(events))
        return SimpleNamespace(run=lambda _images: None)

    if fails:
        with pytest.raises(RuntimeUnavailableError, match="1 of 2 nodes ran elsewhere"):
            onnx_sessions.nodes_by_provider(opened, NOISE, provider="CUDAExecutionProvider")
    else:
        assert len(onnx_sessions.nodes_by_provider(opened, NOISE, provider="CUDAExecutionProvider")) == 2


def test_gpu_state_is_read_from_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("pynvml")
    answers: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda _index: "device",
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _device: 0b101,
        "nvmlDeviceGetComputeRunningProcesses": lambda _device: [
            SimpleNamespace(pid=2),
            SimpleNamespace(pid=1),
        ],
        "nvmlDeviceGetClockInfo": lambda _device, _kind: 1980,
        "nvmlDeviceGetTemperature": lambda _device, _kind: 60,
        "nvmlDeviceGetPowerUsage": lambda _device: 250_000,
        "NVML_CLOCK_SM": 1,
        "NVML_TEMPERATURE_GPU": 0,
        "NVMLError": RuntimeError,
        "nvmlClocksThrottleReasonSwPowerCap": 0b001,
        "nvmlClocksThrottleReasonHwSlowdown": 0b010,
        "nvmlClocksThrottleReasonSwThermalSlowdown": 0b100,
        "nvmlClocksThrottleReasonHwThermalSlowdown": 0b1000,
        "nvmlClocksThrottleReasonHwPowerBrakeSlowdown": 0b10000,
    }
    for name, answer in answers.items():
        setattr(fake, name, answer)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    state = gpu_state()
    assert state is not None
    assert (state.throttled, state.foreign_processes) == (("SwPowerCap", "SwThermalSlowdown"), 1)
    assert (state.power_w, state.clock_mhz, state.temperature_c) == (250.0, 1980, 60)
