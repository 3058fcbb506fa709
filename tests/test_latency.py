"""Timing one callable, and the runtimes it is given."""

import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from bench import latency
from bench.latency import MAX_SAMPLES, measure, thin
from bench.measuring import MeasureTask, measure_runtime
from imgcls import runtimes
from imgcls.config import LoaderConfig, ModelConfig
from imgcls.errors import ConfigError, RuntimeUnavailableError
from imgcls.export import export_onnx
from imgcls.models import build_model, resolve_spec, save_trained
from imgcls.runtimes import ONNX, WEIGHTS, check_runtimes, default_runtimes, open_session
from imgcls.weights import random_weights


def test_both_minimums_are_met() -> None:
    quick = measure(lambda: None, lambda: None, min_queries=64, min_duration_s=0.05)
    assert quick.num_queries > 64
    slow = measure(lambda: time.sleep(0.002), lambda: None, min_queries=64, min_duration_s=0.0)
    assert slow.num_queries == 64


def test_a_query_ends_when_synchronize_returns() -> None:
    samples = measure(lambda: None, lambda: time.sleep(0.003), min_queries=5, min_duration_s=0)
    assert min(samples.samples_ms) >= 3


def test_the_warm_up_is_not_among_the_samples() -> None:
    durations = iter([0.5] * latency.WARM_UP_QUERIES + [0.001] * 5)
    samples = measure(lambda: time.sleep(next(durations)), lambda: None, min_queries=5, min_duration_s=0)
    assert max(samples.samples_ms) < 400


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 54_321])
def test_at_most_1000_samples_are_kept_evenly(count: int) -> None:
    kept = thin([float(i) for i in range(count)])
    assert len(kept) <= MAX_SAMPLES
    assert len(set(np.diff(kept).tolist())) <= 1
    assert kept[0] == 0


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    spec = resolve_spec("test_efficientnet", LoaderConfig(image_size=32), random_weights)
    torch.manual_seed(0)
    model = build_model(spec, ModelConfig(), num_classes=3).eval()
    save_trained(model.state_dict(), spec, num_classes=3, path=folder / WEIGHTS)
    export_onnx(model, spec, class_names=("a", "b", "c"), path=folder / ONNX)
    return folder


@pytest.mark.parametrize(("runtime", "provider"), [("pytorch-cpu", "cpu"), ("onnxruntime-cpu", "CPUExecutionProvider")])
def test_a_runtime_gives_logits_and_says_what_ran(artifacts: Path, runtime: str, provider: str) -> None:
    session = open_session(runtime, artifacts, threads=1)
    logits = session.run(np.zeros((2, 3, 32, 32), dtype=np.float32))
    assert logits.shape == (2, 3)
    assert (session.provider, session.num_threads, session.precision) == (provider, 1, "fp32")


def test_the_runtimes_agree(artifacts: Path) -> None:
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), dtype=np.float32)
    first, second = (open_session(name, artifacts, threads=1).run(images) for name in default_runtimes(cuda=False))
    assert np.abs(first - second).max() / np.abs(first).max() < 1e-4


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("runtime", ["pytorch-cuda", "onnxruntime-cuda"])
def test_cuda_without_a_device_is_a_failed_row_and_never_a_cpu_figure(
    artifacts: Path, tmp_path: Path, runtime: str
) -> None:
    task = MeasureTask(runtime=runtime, folder=str(artifacts), answer=str(tmp_path / "a"), image_size=32, threads=1)
    rows = measure_runtime(task)
    assert [row.batch_size for row in rows] == [1, 32]
    for row in rows:
        assert row.verdict == "failed"
        assert row.reason
        assert row.samples_ms == ()


def test_a_provider_that_falls_back_is_an_error(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, options, providers: real(path, options, providers=["CPUExecutionProvider"]),  # noqa: ARG005
    )
    with pytest.raises(RuntimeUnavailableError, match="CUDAExecutionProvider was asked for and CPUExecution"):
        runtimes.open_onnxruntime(artifacts, 1, provider="CUDAExecutionProvider")


def test_an_unknown_runtime_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"--runtimes tpu: unknown; known: pytorch-cpu, "):
        check_runtimes(("pytorch-cpu", "tpu"))


def test_measuring_gives_enough_queries_at_both_batch_sizes(artifacts: Path, tmp_path: Path) -> None:
    task = MeasureTask(
        runtime="onnxruntime-cpu", folder=str(artifacts), answer=str(tmp_path / "a"), image_size=32, threads=1
    )
    one, many = measure_runtime(task)
    assert one.num_queries >= 64
    assert sum(one.samples_ms) * one.num_queries / len(one.samples_ms) >= 1900
    assert many.num_queries >= 10
    assert one.cold_start_ms is not None
    assert one.cold_start_ms > 0
