"""Measure one run's artifacts in one runtime: what the measuring process does."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench import latency
from bench.environment import peak_memory_bytes
from bench.records import Measurement
from imgcls.errors import RuntimeUnavailableError
from imgcls.runtimes import Session, open_session


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureTask:
    """One runtime on the artifacts in ``folder``; the answer goes to ``answer``."""

    runtime: str
    folder: str
    answer: str
    image_size: int
    threads: int


def measure_runtime(task: MeasureTask) -> list[Measurement]:
    """Open a session and time each batch size; a runtime that cannot be had, or fails, gives failed rows."""
    failed = Measurement(
        runtime=task.runtime,
        batch_size=1,
        verdict="failed",
        protocol_version=latency.PROTOCOL_VERSION,
    )
    clock = latency.clock_ms()
    try:
        session = open_session(task.runtime, Path(task.folder), threads=task.threads)
        session.run(_images(1, task.image_size))
        session.synchronize()
        cold_start_ms = round(latency.clock_ms() - clock, 3)
        return [_measure(task, session, batch_size, cold_start_ms) for batch_size in latency.MIN_QUERIES]
    except RuntimeUnavailableError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a runtime's failure is a failed row, and the others still run
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return [replace(failed, batch_size=batch_size, reason=reason) for batch_size in latency.MIN_QUERIES]


def _measure(task: MeasureTask, session: Session, batch_size: int, cold_start_ms: float) -> Measurement:
    images = _images(batch_size, task.image_size)
    samples = latency.measure(
        lambda: session.run(images),
        session.synchronize,
        min_queries=latency.MIN_QUERIES[batch_size],
        min_duration_s=latency.MIN_DURATION_S[batch_size],
    )
    return Measurement(
        runtime=task.runtime,
        batch_size=batch_size,
        verdict="quick: 1 round",
        protocol_version=latency.PROTOCOL_VERSION,
        provider=session.provider,
        precision=session.precision,
        num_threads=session.num_threads,
        cold_start_ms=cold_start_ms,
        peak_memory_bytes=peak_memory_bytes(),
        num_queries=samples.num_queries,
        samples_ms=samples.samples_ms,
    )


def _images(batch_size: int, image_size: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    """Give normal noise float32 ``[B, 3, S, S]``: what a normalised picture is like, and never all zeros."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)
