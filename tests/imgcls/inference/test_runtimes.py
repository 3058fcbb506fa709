"""Runtimes: equal logits, recorded settings, and an error instead of a silent fallback."""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from imgcls.errors import ConfigError, RuntimeUnavailableError
from imgcls.inference import onnx_sessions, runtimes
from imgcls.inference.onnx_sessions import TENSORRT
from imgcls.inference.runtimes import (
    RUNTIMES,
    check_runtimes,
    default_runtimes,
    open_session,
    placement,
    threads_allowed,
)
from imgcls.inference.torch_sessions import device_timer
from imgcls.parallel import usable_cores
from tests.helpers.gpus import Event, Machine, usable_by_torch

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
    Machine().install(monkeypatch)
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: real(path, options, providers=["CPUExecutionProvider"]),  # noqa: ARG005
    )
    with pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider was requested, but CPUExecution"):
        open_session("onnxruntime-cuda", artifacts, threads=1)


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({"nvidia-cuda-runtime": "13.0.96"}, r"CPUExecutionProvider ran; pip install 'onnxruntime-gpu\[cuda,cudnn\]'"),
        (
            {"nvidia-cuda-runtime-cu12": "12.8"},
            "ran: it needs the libraries of CUDA 13, and the installed packages have those of CUDA 12;",
        ),
        ({}, "it needs the libraries of CUDA 13, and no package has them;"),
    ],
)
def test_libraries_of_another_cuda_are_named(
    versions: dict[str, str], reason: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(package: str) -> str:
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError
        return versions[package]

    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr("importlib.metadata.version", version)
    with on_cpu(monkeypatch), pytest.raises(RuntimeUnavailableError, match=reason):
        open_session("onnxruntime-cuda", artifacts, threads=1)


@contextlib.contextmanager
def on_cpu(monkeypatch: pytest.MonkeyPatch, provider: str = "CUDAExecutionProvider") -> Iterator[list[dict[str, str]]]:
    """Let ONNX Runtime fall back to the CPU on a machine with a GPU; yields the options of each session."""
    asked, real = list[dict[str, str]](), onnxruntime.InferenceSession

    def opened(path: str, options: object, providers: list[tuple[str, dict[str, str]]]) -> object:
        asked.append(providers[0][1])
        return real(path, options, providers=["CPUExecutionProvider"])

    Machine().install(monkeypatch)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    yield asked


def test_missing_provider_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ConfigError, match=r"no CUDAExecutionProvider; pip install 'onnxruntime-gpu\[cuda"):
        check_runtimes(("onnxruntime-cuda",))


def test_tensorrt_is_loaded_before_the_session(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine is built once for a file, with a profile for all batches, and found again by the file's digest."""
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace())
    monkeypatch.setattr("importlib.metadata.version", lambda _package: "10.9.0")
    with on_cpu(monkeypatch, TENSORRT) as asked:
        for name in ("onnxruntime-tensorrt", "onnxruntime-tensorrt", "onnxruntime-tensorrt-fp16"):
            with pytest.raises(RuntimeUnavailableError, match="TensorrtExecutionProvider was requested, but CPU"):
                open_session(name, artifacts, threads=1)
    exact, again, half = asked
    shapes = [exact[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")]
    assert shapes == [f"images:{batch}x3x32x32" for batch in (1, 32, 128)]
    assert (exact["trt_engine_cache_enable"], exact["trt_fp16_enable"], half["trt_fp16_enable"]) == ("1", "0", "1")
    assert exact == again
    engines = Path(exact["trt_engine_cache_path"])
    assert engines.is_dir()
    assert engines.parent == artifacts / "tensorrt"
    assert half["trt_engine_cache_path"] != exact["trt_engine_cache_path"]


def test_missing_tensorrt_says_what_to_install(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"needs tensorrt, which is not installed; pip install .* 'tensorrt<11'"):
        check_runtimes(("onnxruntime-tensorrt",))
    with on_cpu(monkeypatch, TENSORRT), pytest.raises(RuntimeUnavailableError, match="needs TensorRT 10 "):
        open_session("onnxruntime-tensorrt", artifacts, threads=1)


def test_tensorrt_refuses_a_batch_without_a_profile(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = SimpleNamespace(
        run=lambda _outputs, feed: [feed["images"][:, 0, 0]],
        get_providers=lambda: [TENSORRT],
        get_provider_options=dict,
        get_session_options=lambda: onnx_sessions._options(1, None),  # noqa: SLF001 - as onnxruntime returns them
    )
    with on_cpu(monkeypatch, TENSORRT):
        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace())
        monkeypatch.setattr("importlib.metadata.version", lambda _package: "10.9.0")
        monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: session)
        opened = open_session("onnxruntime-tensorrt", artifacts, threads=1)
    assert len(opened.run(np.zeros((128, 3, 2, 2), dtype=np.float32))) == 128
    with pytest.raises(ConfigError, match="batch_size=129: the TensorRT engine has a profile for batches of 1 to 128"):
        opened.run(np.zeros((129, 3, 2, 2), dtype=np.float32))


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


def test_default_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_runtimes(cuda=False) == ("pytorch-cpu", "onnxruntime-cpu")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert default_runtimes(cuda=True) == ("pytorch-cpu", "pytorch-cuda", "onnxruntime-cpu", "onnxruntime-cuda")
    # As the builds for 64-bit ARM are.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert default_runtimes(cuda=True) == ("pytorch-cpu", "pytorch-cuda", "onnxruntime-cpu")


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


def test_time_on_the_device_has_no_launch_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that the device begins while the host still launches it is repeated after a longer delay."""
    delays: list[int] = []
    monkeypatch.setattr("torch.cuda._sleep", delays.append)

    class Device(Event):
        def __init__(self, **_: object) -> None:
            super().__init__(lambda: float(len(delays)))

        def query(self) -> bool:
            return delays[-1] < 8_000_000  # a host that needs 4 ms for its launches

    monkeypatch.setattr("torch.cuda.Event", Device)
    once = device_timer(lambda images: images, torch.from_numpy)(NOISE[:1])
    assert once() == 0.0
    assert delays == [2_000_000, 4_000_000, 8_000_000]
    once()
    assert delays[3:] == [8_000_000]


def test_device_timer_ends_for_a_model_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[int] = []
    monkeypatch.setattr("torch.cuda._sleep", delays.append)
    monkeypatch.setattr(
        "torch.cuda.Event",
        lambda **_: SimpleNamespace(
            record=lambda: None, query=lambda: True, synchronize=lambda: None, elapsed_time=lambda _end: 5.0
        ),
    )
    assert device_timer(lambda images: images, torch.from_numpy)(NOISE[:1])() == 5.0
    assert len(delays) == 11


def test_unusable_gpu_is_named(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)
    usable_by_torch(monkeypatch, capability=(7, 0))
    with pytest.raises(RuntimeUnavailableError, match="has no code for the NVIDIA H200"):
        open_session("pytorch-cuda", artifacts, threads=1)


@pytest.mark.parametrize(
    ("runtime", "language"),
    [("pytorch-compile-cpu", r"C\+\+ compiler; install g\+\+"), ("pytorch-compile-cuda", "C compiler")],
)
def test_missing_compiler_is_named(
    runtime: str, language: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable_by_torch(monkeypatch)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(RuntimeUnavailableError, match=f"torch.compile needs a {language}"):
        open_session(runtime, artifacts, threads=1)


def test_missing_triton_is_named(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable_by_torch(monkeypatch)
    monkeypatch.setattr("shutil.which", str)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(RuntimeUnavailableError, match="needs Triton on CUDA; pip install triton"):
        open_session("pytorch-compile-cuda", artifacts, threads=1)
