"""The protocols, and the timing of a callable; independent of any runtime, which passes ``run`` and ``synchronize``."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.special import bdtr

from bench.records.measurements import ProtocolName

PROTOCOL_VERSION: Final = 2

# 1: one process per runtime and model; batch 1: 64 queries and 2 s; batch 32: 10 batches; wall clock.
# 2: in each round, one process per runtime, which times every model, in rotated order; batch 1 for 10 s and 64 queries
#    over 5 rounds; batches 8, 32, 128; from file to label; disturbance of every round; a validity. The single round of
#    run-all is "quick".

CONFIDENCE: Final = 0.99
"""Confidence of LoadGen's early-stopping rule, at tolerance 0 (MLPerf Inference rules, appendix on early stopping)."""

# The first queries allocate buffers and choose kernels. A minimum of time too, as a fast model may do three queries
# before the CPU has raised its clock.
WARM_UP_QUERIES: Final = 3

WARM_UP_S: Final = 0.2

MAX_SAMPLES: Final = 1000
"""Samples that a record keeps of all rounds of a row at batch 1 on the host; a fifth of it for other rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """Amount of timing: ``duration_s`` and ``min_queries`` at batch 1 are over all rounds, the others are per round.

    With ``files`` the path from an encoded image file to a label is timed too.
    """

    name: ProtocolName
    rounds: int
    duration_s: float
    min_queries: int
    batch_sizes: tuple[int, ...]
    batch_duration_s: float
    min_batches: int
    files: bool
    checked: bool = True
    """Whether networks are compared with the trained ones before they are timed."""

    @property
    def model_s(self) -> float:
        """Expected seconds per model and round, for the display of the remaining time."""
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


SCREENING: Final = Protocol(
    name="screening",
    rounds=3,
    duration_s=3.0,
    min_queries=64,
    batch_sizes=(),
    batch_duration_s=0.0,
    min_batches=3,
    files=False,
    checked=False,
)
"""For untrained networks, of which those that are clearly too slow are never trained."""

DECIDING: Final = replace(SCREENING, rounds=5, duration_s=10.0)
"""The same for those near a limit, with the rounds and the duration of the full protocol."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Durations in ms of all queries after the warm-up, in order, and the thread's CPU time over the elapsed time."""

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
    """Time ``run`` repeatedly, one query at a time, until both minimums are reached.

    The clock is the host's; a query ends when ``synchronize`` returns. Warm-up queries are not included.
    """
    clock = time.perf_counter
    began, queries = clock(), 0
    while queries < warm_up or (warm_up and clock() - began < WARM_UP_S):
        run()
        synchronize()
        queries += 1
    samples: list[float] = []
    cpu, began = time.thread_time(), clock()
    while len(samples) < min_queries or clock() - began < min_duration_s:
        started = clock()
        run()
        synchronize()
        samples.append((clock() - started) * 1e3)
    cpu_share = (time.thread_time() - cpu) / max(clock() - began, 1e-9)
    # The two clocks are read one after the other, so that a busy thread can come out slightly over 1.
    return Samples(samples_ms=tuple(samples), cpu_share=min(cpu_share, 1.0))


def thin(samples: Sequence[float], limit: int = MAX_SAMPLES) -> tuple[float, ...]:
    """Return at most ``limit`` samples in ms, rounded to four decimals."""
    # Every n-th sample, not a random choice or the first ones, so that a change over time stays visible.
    stride = max(1, math.ceil(len(samples) / limit))
    return tuple(round(sample, 4) for sample in samples[::stride])


@functools.cache
def allowed_over(percent: int, queries: int) -> int:
    """Return how many of ``queries`` may exceed a bound that still holds for ``percent`` of all queries.

    At 99 % confidence, this is the largest t with P(Binomial(queries, 1 - percent/100) <= t) <= 0.01, or -1 if none.
    """
    share = 1 - percent / 100
    tried = np.arange(int(queries * share) + 2)  # up to about the mean, where it is far above 0.01
    # scipy.special, because a measuring process would have to load the much larger scipy.stats.
    return int(np.count_nonzero(bdtr(tried, queries, share) <= 1 - CONFIDENCE)) - 1


def enough_queries(percent: int, queries: int) -> bool:
    """Return whether LoadGen would report this percentile: from 64 queries for p90, 130 for p95, 662 for p99."""
    return allowed_over(percent, queries) >= 1


def upper_bound(samples_ms: Sequence[float], percent: int) -> float | None:
    """Return LoadGen's early-stopping upper bound of a percentile in ms; None if there are too few queries."""
    allowed = allowed_over(percent, len(samples_ms))
    return round(float(np.sort(samples_ms)[-allowed]), 4) if allowed >= 1 else None


def clock_ms() -> float:
    """Return the host clock that all timings use, in ms."""
    return time.perf_counter() * 1e3
