"""Validity of synthetic measurements with each kind of disturbance."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.latency.validity import Case, judge
from bench.records.measurements import Disturbance, GpuState
from tests.helpers.examples import disturbance

Samples = Callable[[int, np.random.Generator], NDArray[np.float64]]
ROUNDS = 5


def case(samples: Samples, *, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    return Case(
        samples_ms=[samples(number, rng).tolist() for number in range(ROUNDS)],
        disturbances=[disturbance()] * ROUNDS,
        cpu_shares=[0.99] * ROUNDS,
        anchor_ms=2.0,
        min_queries=64,
        rounds=ROUNDS,
    )


def steady(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    del number
    return 10 * np.exp(rng.gamma(1, 0.02, 150))


def outlier(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    samples = steady(number, rng)
    samples[0] = 500.0
    return samples


def bimodal(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.where(rng.random(150) < 0.4, 10.0, 13.0) * np.exp(rng.normal(0, 0.01, 150)) + 0 * number


def drifting(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return steady(number, rng) * (1 + 0.008 * number)


def step(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return steady(number, rng) * (1.0 if number < 3 else 1.3)


def test_one_slow_query_is_valid() -> None:
    assert judge(case(outlier)) == ("valid", None)


@pytest.mark.parametrize(("longest_ms", "validity"), [(900.0, "valid"), (60_000.0, "invalid")])
def test_a_process_that_was_stopped_is_invalid(longest_ms: float, validity: str) -> None:
    def stopped(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
        samples = steady(number, rng)
        if number == 2:
            samples[70] = longest_ms
        return samples

    judged, reason = judge(case(stopped))
    assert judged == validity
    assert (reason or "").startswith("the process was stopped: a query took 60.0 s") == (validity == "invalid")


@pytest.mark.parametrize(
    ("samples", "reason"),
    [(bimodal, "two kinds of queries"), (drifting, "drifts by"), (step, "rounds differ")],
)
def test_irregular_samples_are_noisy(samples: Samples, reason: str) -> None:
    validity, why = judge(case(samples))
    assert validity == "noisy"
    assert reason in str(why)


@pytest.mark.parametrize(("second_ms", "validity"), [(10.45, "valid"), (11.0, "noisy")])
def test_two_modes_must_be_5_percent_apart(second_ms: float, validity: str) -> None:
    def samples(_number: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return np.where(rng.random(150) < 0.3, 10.0, second_ms) * np.exp(rng.normal(0, 0.003, 150))

    assert judge(case(samples))[0] == validity


def test_steady_rounds_are_valid_in_95_percent() -> None:
    found = [judge(case(steady, seed=seed)) for seed in range(100)]
    assert found.count(("valid", None)) >= 95


def disturbed(case: Case, rounds: int, **changes: float) -> Case:
    seen = [disturbance(**changes) if number < rounds else disturbance() for number in range(ROUNDS)]
    return replace(case, disturbances=seen)


@pytest.mark.parametrize(
    ("changes", "rounds", "validity", "reason"),
    [
        ({"others_share": 0.5}, 5, "invalid", "other processes: up to 50 %"),
        ({"others_share": 0.5}, 2, "noisy", "other processes"),
        ({"others_share": 0.5}, 1, "valid", "None"),
        ({"others_share": 0.03}, 5, "valid", "None"),
        ({"steal_share": 0.3}, 5, "invalid", "stolen by host: up to 30 %"),
        ({"anchor_ms": 3.2}, 5, "noisy", "the machine itself was 1.60 x slower than its reference"),
        ({"anchor_ms": 2.05}, 5, "valid", "None"),
        ({"cpu_mhz": 1800.0}, 2, "noisy", "CPU clock between 1800 and 2600 MHz"),
    ],
)
def test_disturbed_machine_is_reported(changes: dict[str, float], rounds: int, validity: str, reason: str) -> None:
    found, why = judge(disturbed(case(steady), rounds, **changes))
    assert found == validity
    assert reason in str(why)


@pytest.mark.parametrize(("share", "rounds", "validity"), [(0.6, 5, "invalid"), (0.9, 3, "noisy"), (0.97, 5, "valid")])
def test_waiting_for_a_cpu_is_reported(share: float, rounds: int, validity: str) -> None:
    shares = [share] * rounds + [0.99] * (ROUNDS - rounds)
    assert judge(replace(case(steady), cpu_shares=shares))[0] == validity


def test_too_few_queries_or_rounds_are_invalid() -> None:
    whole = case(steady)
    few = replace(whole, samples_ms=[samples[:12] for samples in whole.samples_ms])
    assert judge(few) == ("invalid", "60 of 64 queries")
    short = replace(whole, samples_ms=whole.samples_ms[:4], disturbances=whole.disturbances[:4])
    assert judge(short)[0] == "invalid"


def on_gpu(**changes: object) -> Disturbance:
    state = GpuState(clock_mhz=1980, temperature_c=50, power_w=300.0, throttled=(), foreign_share=0.0, samples=4)
    return disturbance(gpu=replace(state, **changes))  # type: ignore[arg-type]


def test_shared_or_throttled_gpu_is_reported() -> None:
    quiet = replace(case(steady), cpu_shares=None)
    assert judge(replace(quiet, disturbances=[on_gpu()] * 5))[0] == "valid"
    shared = replace(quiet, disturbances=[on_gpu()] * 4 + [on_gpu(foreign_share=0.3)])
    assert judge(shared) == ("invalid", "other processes on the GPU: up to 30 %")
    idle = replace(quiet, disturbances=[on_gpu(foreign_share=0.02)] * 5)
    assert judge(idle)[0] == "valid"
    unchecked = replace(quiet, disturbances=[on_gpu()] * 4 + [on_gpu(foreign_share=None)])
    assert judge(unchecked) == ("noisy", "other processes on the GPU: not checked")
    hot = replace(quiet, disturbances=[on_gpu(throttled=("SwThermalSlowdown",))] * 5)
    assert judge(hot) == ("noisy", "GPU throttled (SwThermalSlowdown)")


def test_valid_p50s_agree_within_3_percent() -> None:
    rng = np.random.default_rng(0)

    def once(spread: float) -> tuple[str, float]:
        def samples(number: int, rng: np.random.Generator) -> NDArray[np.float64]:
            return steady(number, rng) * np.exp(rng.normal(0, spread))

        found = case(samples, seed=int(rng.integers(2**31)))
        return judge(found)[0], float(np.median(np.concatenate(found.samples_ms)))

    agreed = []
    for _ in range(400):
        spread = float(rng.uniform(0.002, 0.05))  # of the speeds of rounds
        (first, ours), (second, other) = once(spread), once(spread)
        if first == second == "valid":
            agreed.append(abs(other / ours - 1) <= 0.03)
    assert len(agreed) > 50
    assert np.mean(agreed) >= 0.9
