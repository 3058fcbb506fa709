"""Time one callable; knows nothing of torch: it takes ``run`` and ``synchronize``."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PROTOCOL_VERSION: Final = 1
# 1: one process a runtime and model; batch 1: 64 queries and 2 s; batch 32: 10 batches; wall clock.

MIN_QUERIES: Final = {1: 64, 32: 10}
"""Batch size to the least number of queries."""
MIN_DURATION_S: Final = {1: 2.0, 32: 0.0}
WARM_UP_QUERIES: Final = 3
MAX_SAMPLES: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Samples:
    """Durations in ms of ``num_queries`` queries after the warm-up, in order; at most 1,000 are kept."""

    num_queries: int
    samples_ms: tuple[float, ...]


def measure(
    run: Callable[[], object], synchronize: Callable[[], None], *, min_queries: int, min_duration_s: float
) -> Samples:
    """Time ``run`` one query after the other, until both minimums are met.

    The clock is the host's; a query ends when ``synchronize`` returns. Warm-up queries are not kept.
    """
    for _ in range(WARM_UP_QUERIES):
        run()
        synchronize()
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < min_queries or time.perf_counter() - began < min_duration_s:
        started = time.perf_counter()
        run()
        synchronize()
        samples.append((time.perf_counter() - started) * 1e3)
    kept = tuple(round(sample, 4) for sample in thin(samples))
    return Samples(num_queries=len(samples), samples_ms=kept)


def thin(samples: list[float]) -> list[float]:
    """Keep at most ``MAX_SAMPLES``, evenly spaced in time."""
    stride = math.ceil(len(samples) / MAX_SAMPLES)
    return samples[::stride]


def clock_ms() -> float:
    """Read the host clock that everything here is timed by."""
    return time.perf_counter() * 1e3
