"""Time one callable, by a protocol; knows nothing of torch: it takes ``run`` and ``synchronize``."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import bdtr

from bench.records.measurements import ProtocolName

PROTOCOL_VERSION: Final = 2

# 1: one process a runtime and model; batch 1: 64 queries and 2 s; batch 32: 10 batches; wall clock.
# 2: rounds, each one process a runtime that visits every model in rotated order; batch 1 for 10 s and 64 queries over 5
#    rounds; batches 8, 32, 128; from a file to a label; disturbance beside every round; a validity. One round of
#    run-all is "quick".

CONFIDENCE: Final = 0.99
"""Of LoadGen's early-stopping rule, at tolerance 0 (MLPerf Inference rules, appendix on early stopping)."""

WARM_UP_QUERIES: Final = 3

WARM_UP_S: Final = 0.2

MAX_SAMPLES: Final = 1000
"""Kept of all rounds of a row at batch 1; of other rows a fifth of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How long is measured: ``duration_s`` and ``min_queries`` at batch 1 in all rounds, the rest in each round.

    ``files`` also times the whole way from an encoded image file to a label.
    """

    name: ProtocolName
    rounds: int
    duration_s: float
    min_queries: int
    batch_sizes: tuple[int, ...]
    batch_duration_s: float
    min_batches: int
    files: bool

    @property
    def model_s(self) -> float:
        """Seconds that a model is expected to take in a round, for the time left."""
        return self.duration_s / self.rounds * (1 + self.files) + self.batch_duration_s * len(self.batch_sizes) + 1.0


FULL: Final = Protocol(
    name="full",
    rounds=5,
    duration_s=10.0,
    min_queries=64,
    batch_sizes=(8, 32, 128),
    batch_duration_s=2.0,
    min_batches=3,
    files=True,
)

QUICK: Final = Protocol(
    name="quick",
    rounds=1,
    duration_s=2.0,
    min_queries=64,
    batch_sizes=(32,),
    batch_duration_s=0.0,
    min_batches=3,
    files=False,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Durations in ms of all queries after the warm-up, in order, and the thread's CPU time over the clock's."""

    samples_ms: tuple[float, ...]
    cpu_share: float


def measure(
    run: Callable[[], object],
    synchronize: Callable[[], None],
    *,
    min_queries: int,
    min_duration_s: float,
    warm_up: int = WARM_UP_QUERIES,
) -> Samples:
    """Time ``run``, the next query when the last has ended, until both minimums are met.

    The clock is the host's; a query ends when ``synchronize`` returns. Warm-up queries are not kept.
    """
    _warm_up(run, synchronize, warm_up)
    samples: list[float] = []
    clock = time.perf_counter
    cpu, began = time.thread_time(), clock()
    while len(samples) < min_queries or clock() - began < min_duration_s:
        started = clock()
        run()
        synchronize()
        samples.append((clock() - started) * 1e3)
    cpu_share = (time.thread_time() - cpu) / max(clock() - began, 1e-9)
    return Samples(samples_ms=tuple(samples), cpu_share=min(cpu_share, 1.0))


def _warm_up(run: Callable[[], object], synchronize: Callable[[], None], least: int) -> None:
    began, queries = time.perf_counter(), 0
    while queries < least or (least and time.perf_counter() - began < WARM_UP_S):
        run()
        synchronize()
        queries += 1


def thin(samples: Sequence[float], limit: int = MAX_SAMPLES) -> tuple[float, ...]:
    """Keep at most ``limit``, evenly spaced in time."""
    stride = max(1, math.ceil(len(samples) / limit))
    return tuple(round(sample, 4) for sample in samples[::stride])


@functools.cache
def allowed_over(percent: int, queries: int) -> int:
    """Most queries over a bound that still show, at the confidence, that ``percent`` of all queries are under it.

    The largest t with P(Binomial(queries, 1 - percent/100) <= t) <= 0.01; -1 where even none over it shows nothing.
    """
    share = 1 - percent / 100
    tried = np.arange(int(queries * share) + 2)  # about the median: far above what shows anything
    return int(np.count_nonzero(bdtr(tried, queries, share) <= 1 - CONFIDENCE)) - 1


def enough_queries(percent: int, queries: int) -> bool:
    """Return whether LoadGen would state this percentile of so many queries: 64 for p90, 130 for p95, 662 for p99."""
    return allowed_over(percent, queries) >= 1


def upper_bound(samples_ms: Sequence[float], percent: int) -> float | None:
    """Bound a percentile from above as LoadGen's early stopping does; None of too few queries."""
    allowed = allowed_over(percent, len(samples_ms))
    return round(float(np.sort(samples_ms)[-allowed]), 4) if allowed >= 1 else None


def clock_ms() -> float:
    """Read the host clock that everything here is timed by."""
    return time.perf_counter() * 1e3
