"""Timing of a callable, LoadGen's percentiles, and the rows of a round."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from bench.latency import protocol
from bench.latency.protocol import FULL, MAX_SAMPLES, allowed_over, enough_queries, measure, thin, upper_bound
from bench.latency.round_worker import Timed
from bench.latency.rows import Stamp, combine
from bench.latency.worker import WORKER
from bench.processes.starting import launch
from tests.helpers.examples import SHORT, disturbance

STAMP = Stamp(session_id="s", measured_at="now", commit="c")


class Clock:
    """In place of the module ``time``: it advances only by waiting and by working, which takes CPU time as well."""

    def __init__(self) -> None:
        self.now_s = self.cpu_s = 0.0

    def perf_counter(self) -> float:
        return self.now_s

    def thread_time(self) -> float:
        return self.cpu_s

    def wait(self, duration_s: float) -> None:
        self.now_s += duration_s

    def work(self, duration_s: float) -> None:
        self.wait(duration_s)
        self.cpu_s += duration_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(protocol, "time", made)
    return made


def test_both_minimums_are_met(clock: Clock) -> None:
    quick = measure(lambda: clock.wait(0.0005), lambda: None, min_queries=64, min_duration_s=0.05)
    assert len(quick.samples_ms) == pytest.approx(100, abs=1)
    slow = measure(lambda: clock.wait(0.002), lambda: None, min_queries=64, min_duration_s=0.0)
    assert len(slow.samples_ms) == 64


def test_query_ends_when_synchronize_returns(clock: Clock) -> None:
    samples = measure(lambda: clock.wait(0.25), lambda: clock.wait(0.003), min_queries=5, min_duration_s=0)
    assert samples.samples_ms == pytest.approx([253] * 5)


def test_samples_exclude_the_warm_up(clock: Clock) -> None:
    durations = iter([0.5] * protocol.WARM_UP_QUERIES + [0.001] * 5)
    samples = measure(lambda: clock.wait(next(durations)), lambda: None, min_queries=5, min_duration_s=0)
    assert samples.samples_ms == pytest.approx([1] * 5)


def test_waiting_thread_has_a_low_cpu_share(clock: Clock) -> None:
    def half() -> None:
        clock.work(0.001)
        clock.wait(0.001)

    shares = [
        measure(run, lambda: None, min_queries=50, min_duration_s=0.3).cpu_share
        for run in (lambda: clock.work(0.002), half, lambda: clock.wait(0.002))
    ]
    assert shares == pytest.approx([1, 0.5, 0])


def test_clock_is_that_of_the_host() -> None:
    """Beside the simulated clock: a query that sleeps takes no less, and hardly any CPU time."""
    samples = measure(lambda: threading.Event().wait(0.02), lambda: None, min_queries=10, min_duration_s=0)
    assert min(samples.samples_ms) >= 20
    assert samples.cpu_share < 0.5


@pytest.mark.parametrize("count", [1, 999, 1000, 1001, 54_321])
def test_at_most_1000_samples_are_kept(count: int) -> None:
    kept = thin([float(i) for i in range(count)])
    assert len(kept) <= MAX_SAMPLES
    assert len(set(np.diff(kept).tolist())) <= 1
    assert kept[0] == 0


@pytest.mark.parametrize(("percent", "least"), [(90, 64), (95, 130), (99, 662)])
def test_percentiles_need_loadgens_query_counts(percent: int, least: int) -> None:
    assert not enough_queries(percent, least - 1)
    assert enough_queries(percent, least)
    assert upper_bound([1.0] * (least - 1), percent) is None


def test_upper_bound_is_loadgens() -> None:
    # LoadGen's log of a SingleStream run of 2,048 queries: "Would discard 172 highest latency queries"; of 2,116: 178.
    assert upper_bound([float(i) for i in range(2048)], 90) == 2047 - 172
    assert upper_bound([float(i) for i in range(2116)], 90) == 2115 - 178


@given(queries=st.integers(64, 5000))
def test_upper_bound_is_tight_at_99_percent(queries: int) -> None:
    over = allowed_over(90, queries)
    assert binom.cdf(over, queries, 0.1) <= 0.01 < binom.cdf(over + 1, queries, 0.1)


def test_upper_bound_holds_in_simulation() -> None:
    rng = np.random.default_rng(0)
    true = float(np.quantile(np.exp(rng.normal(size=10**6)), 0.9))
    bounds = [upper_bound(np.exp(rng.normal(size=200)).tolist(), 90) for _ in range(2000)]
    missed = np.mean([bound is not None and bound < true for bound in bounds])
    assert missed <= 0.015


def timed(samples: list[float]) -> Timed:
    return Timed(
        train_id="t",
        kind="host",
        batch_size=1,
        provider="cpu",
        precision="fp32",
        num_threads=1,
        settings={},
        samples_ms=tuple(samples),
        cpu_share=0.99,
        disturbance=disturbance(),
    )


def test_rounds_are_combined_into_one_row() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(10, 0.1, 300).tolist() for _ in range(5)]
    rounds = {number: [timed(samples[number])] for number in (3, 0, 4, 1, 2)}
    (row,) = combine(
        "onnxruntime-cpu",
        rounds,
        protocol=FULL,
        threads=1,
        anchor_ms=2.0,
        stamp=STAMP,
    )["t"]
    assert (row.validity, row.num_queries, row.git_commit) == ("valid", 1500, "c")
    assert [(part.number, part.num_queries, part.kept) for part in row.rounds] == [(n, 300, 150) for n in range(5)]
    assert row.samples_ms == tuple(sample for each in samples for sample in thin(each, MAX_SAMPLES // 5))
    assert row.p90_upper_ms == upper_bound([sample for each in samples for sample in each], 90)


def test_failed_round_fails_the_row() -> None:
    bad = Timed(train_id="t", kind="host", batch_size=1, reason="boom")
    rounds = {0: [timed([10.0] * 64)], 1: [bad]}
    (row,) = combine(
        "onnxruntime-cpu",
        rounds,
        protocol=FULL,
        threads=1,
        anchor_ms=2.0,
        stamp=STAMP,
    )["t"]
    assert (row.status, row.reason, row.samples_ms) == ("failed", "boom", ())


def test_too_few_rounds_are_invalid() -> None:
    rounds = {number: [timed([10.0] * 64)] for number in range(4)}
    (row,) = combine(
        "onnxruntime-cpu",
        rounds,
        protocol=FULL,
        threads=1,
        anchor_ms=2.0,
        stamp=STAMP,
    )["t"]
    assert (row.validity, row.reason) == ("invalid", "4 of 5 rounds")


FAT = """
import subprocess, sys
block = bytearray(600 * 2**20)
block[::4096] = b"x" * len(block[::4096])
code = "from bench.records.environment import peak_memory_bytes; print(peak_memory_bytes())"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
"""


def test_peak_memory_excludes_the_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FAT], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300 * 2**20


def test_round_announces_each_row_before_timing(artifacts: Path, tmp_path: Path) -> None:
    task = {
        "runtime": "onnxruntime-cpu",
        "subjects": [{"train_id": "t", "folder": str(artifacts), "image_size": 32}],
        "threads": 1,
        "protocol": msgspec.to_builtins(SHORT),
    }
    (tmp_path / "t.task").write_text(json.dumps(task))
    printed: list[bytes] = []
    assert launch([WORKER, "measure", str(tmp_path / "t.task")], printed.append) == 0
    lines = [json.loads(line) for line in printed]
    assert [("begun" in line, line["batch_size"]) for line in lines] == [(True, 1), (False, 1), (True, 8), (False, 8)]
    assert all(line["samples_ms"] and line["disturbance"] for line in lines if "begun" not in line)
