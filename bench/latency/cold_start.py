"""Cold start of a model in a fresh process: import, load, first inference, peak memory.

This module imports no runtime: whatever it imported would be missing from the import time.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.latency.protocol import clock_ms
from bench.records.environment import peak_memory_bytes
from bench.records.measurements import Inputs
from bench.records.paths import Pictures
from imgcls.inference.runtimes import RUNTIMES, open_session
from imgcls.inference.session import Images, Session


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckTask:
    """One model in one runtime, the inputs of its parity check, and the file that the check is written to.

    With "test" and without ``pictures``, parity is not checked and no int8 file can be made.
    """

    runtime: str
    folder: str
    image_size: int
    threads: int
    onnx_sha256: str
    result_file: str
    pictures: Pictures | None
    inputs: Inputs = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStart:
    """An open session, the duration of each step up to its first result at batch 1, and the peak resident size."""

    session: Session
    import_ms: float
    load_ms: float
    first_ms: float
    peak_memory_bytes: int


def cold_start(task: CheckTask) -> ColdStart:
    """Import the runtime, open the model and run it once; exceptions of these steps are not caught."""
    marks = [clock_ms()]
    # Imported here and not by ``open_session``, so that import time and loading time are separate.
    for module in RUNTIMES[task.runtime].modules:
        importlib.import_module(module)
    marks.append(clock_ms())
    # The session's caller has checked the file (``bench.latency.session``), so that the check is not timed.
    session = open_session(task.runtime, Path(task.folder), threads=task.threads, checked=True)
    marks.append(clock_ms())
    session.run(noise(1, task.image_size))
    session.synchronize()
    marks.append(clock_ms())
    import_ms, load_ms, first_ms = (round(float(took), 3) for took in np.diff(marks))
    return ColdStart(
        session=session,
        import_ms=import_ms,
        load_ms=load_ms,
        first_ms=first_ms,
        # Read before the checks: a peak never falls, so a later reading would include their memory.
        peak_memory_bytes=peak_memory_bytes(),
    )


def noise(batch_size: int, image_size: int) -> Images:
    """Return standard normal noise float32 ``[B, 3, S, S]``, which has the scale of normalised images."""
    # Not zeros, with which a GPU draws less power and may run faster. The seed gives every runtime the same input.
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch_size, 3, image_size, image_size), dtype=np.float32)
