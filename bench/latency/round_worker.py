"""One round of one runtime in the measuring process: it times every model and reports each row when it is done."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.latency.cold_start import noise
from bench.latency.monitoring import GpuMonitor, gpu_monitor, watch
from bench.latency.protocol import WARM_UP_QUERIES, Protocol, clock_ms, measure
from bench.records.measurements import Disturbance, Kind
from imgcls.data.decode import decode, quiet_libraries, to_square
from imgcls.errors import NoDeviceError, RuntimeUnavailableError
from imgcls.inference.card import Card, preprocess
from imgcls.inference.runtimes import RUNTIMES, open_session
from imgcls.inference.session import Session, nothing

PARTS: Final = ("decode", "resize", "normalise", "infer")

OUT_OF_MEMORY: Final = (
    "out of memory",
    "outofmemory",
    "memoryerror",
    "not enough memory",
    "allocate",  # "can't allocate memory", "Failed to allocate memory", "Available memory ... to allocate"
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
)
"""Words in the messages of out-of-memory errors: the runtimes have no common exception class for them."""

DEVICE_LOST: Final = ("cuda error", "cuda failure", "device-side assert")
"""Words in the messages of CUDA's other errors, such as an illegal memory access.

The context of the process is unusable afterwards (CUDA Runtime API, cudaError)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model to time: its artifact folder, its input size, and paths of test images (empty if not available).

    ``card`` is part of the task, because reading it from the ONNX file would load a library that is not timed.
    """

    train_id: str
    folder: str
    image_size: int
    files: tuple[str, ...] = ()
    card: Card | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTask:
    """One runtime and the models to time in it, in this order."""

    runtime: str
    subjects: tuple[Subject, ...]
    threads: int
    protocol: Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One row of one round with all its samples in ms, or the ``reason`` why there are none."""

    train_id: str
    kind: Kind
    batch_size: int
    reason: str | None = None
    no_device: bool = False
    device_lost: bool = False
    provider: str | None = None
    precision: str | None = None
    num_threads: int | None = None
    settings: dict[str, str] | None = None
    samples_ms: tuple[float, ...] = ()
    parts_ms: dict[str, tuple[float, ...]] | None = None
    cpu_share: float | None = None
    disturbance: Disturbance | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """The row that is timed next, reported beforehand so that the caller knows at which row a process was killed."""

    begun: str
    kind: Kind
    batch_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CurrentRound:
    """A round in progress: its task, and the monitor of the GPU if its runtime computes on one."""

    task: RoundTask
    gpu: GpuMonitor | None


def run_round(task: RoundTask, tell: Callable[[Begun | Timed], None]) -> bool:
    """Time every model of a round; each row goes to ``tell`` when it is done.

    Returns False if an error left the device unusable for this process, which then cannot time the other models.
    """
    # The monitor first: it must know which processes used the GPU before this one does.
    current = CurrentRound(task=task, gpu=gpu_monitor() if RUNTIMES[task.runtime].cuda else None)
    for subject in task.subjects:
        for row in _rows(current, subject, tell):
            tell(row)
            if row.device_lost:
                return False
    return True


def _rows(current: CurrentRound, subject: Subject, tell: Callable[[Begun | Timed], None]) -> Iterator[Timed]:
    """Yield the rows of one model: batch 1, from file, on the device, then larger batches.

    Stops after the first row if the model cannot be opened, and after the first batch size that fails, because a
    larger one would fail too.
    """
    task = current.task
    first = Timed(train_id=subject.train_id, kind="host", batch_size=1)
    tell(Begun(begun=subject.train_id, kind="host", batch_size=1))
    try:
        session = open_session(task.runtime, Path(subject.folder), threads=task.threads, checked=True)
    except Exception as error:  # noqa: BLE001 - one model's failure must not stop the others
        no_device = isinstance(error, NoDeviceError)
        yield replace(first, reason=reason_of(error), no_device=no_device, device_lost=_lost_device(error))
        return
    yield _tried(_timed_host, first, current, session, subject)
    if task.protocol.files and subject.files and subject.card is not None:
        tell(Begun(begun=subject.train_id, kind="file", batch_size=1))
        yield _tried(_timed_file, replace(first, kind="file"), current, session, subject)
    if session.device_timer is not None:
        tell(Begun(begun=subject.train_id, kind="device", batch_size=1))
        yield _tried(_timed_on_device, replace(first, kind="device"), current, session, subject)
    for batch_size in task.protocol.batch_sizes:
        tell(Begun(begun=subject.train_id, kind="host", batch_size=batch_size))
        row = _tried(_timed_host, replace(first, batch_size=batch_size), current, session, subject)
        yield row
        if row.reason is not None:
            return


def _tried(
    time_row: Callable[[Timed, CurrentRound, Session, Subject], Timed],
    row: Timed,
    current: CurrentRound,
    session: Session,
    subject: Subject,
) -> Timed:
    """Return a row with its samples, or with the reason why timing it failed."""
    try:
        return time_row(row, current, session, subject)
    except Exception as error:  # noqa: BLE001 - a failed row must not stop the other rows
        if _out_of_memory(error):
            return replace(row, reason=f"batch {row.batch_size} does not fit in memory")
        return replace(row, reason=reason_of(error), device_lost=_lost_device(error))


def _out_of_memory(error: Exception) -> bool:
    text = f"{type(error).__name__}: {error}".lower()  # with the type: a MemoryError may have no message
    return any(words in text for words in OUT_OF_MEMORY)


def _lost_device(error: Exception) -> bool:
    return not _out_of_memory(error) and any(words in str(error).lower() for words in DEVICE_LOST)


def reason_of(error: Exception) -> str:
    """Return the reason for a failure in one line."""
    if isinstance(error, RuntimeUnavailableError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _timed(row: Timed, current: CurrentRound, session: Session, query: Callable[[], object]) -> Timed:
    """Time one row of this round and record what disturbed it."""
    single = row.batch_size == 1
    protocol = current.task.protocol
    finish = watch(current.gpu)
    samples = measure(
        query,
        # The other kinds synchronise within their query, where their own timestamps are taken.
        session.synchronize if row.kind == "host" else nothing,
        # Rounded up, so that the rounds together reach the minimum of the protocol.
        min_queries=-(-protocol.min_queries // protocol.rounds) if single else protocol.min_batches,
        min_duration_s=protocol.duration_s / protocol.rounds if single else protocol.batch_duration_s,
        warm_up=WARM_UP_QUERIES if single else 1,
    )
    # With more threads, or on a GPU, the timing thread waits for the others by design.
    alone = session.num_threads == 1 and current.gpu is None
    return replace(
        row,
        provider=session.provider,
        precision=session.precision,
        num_threads=session.num_threads,
        settings=session.settings,
        samples_ms=samples.samples_ms,
        cpu_share=round(samples.cpu_share, 4) if alone else None,
        disturbance=finish(),
    )


def _timed_host(row: Timed, current: CurrentRound, session: Session, subject: Subject) -> Timed:
    """Time inference with input and output on the host."""
    # Made here, so that drawing random numbers is not part of a query.
    images = noise(row.batch_size, subject.image_size)
    return _timed(row, current, session, lambda: session.run(images))


def _timed_file(row: Timed, current: CurrentRound, session: Session, subject: Subject) -> Timed:
    """Time the path from an encoded image file to a label, and its parts within each query."""
    card = subject.card
    assert card is not None, "file timing needs the card of the model"
    marked: list[list[float]] = []

    def query() -> None:
        marks = [clock_ms()]
        picture = decode(Path(subject.files[len(marked) % len(subject.files)]), min_side=card.resize.side)
        marks.append(clock_ms())
        square = to_square(picture.image, card.resize)
        marks.append(clock_ms())
        images = preprocess(square[None], card)
        marks.append(clock_ms())
        card.class_names[int(session.run(images)[0].argmax())]
        session.synchronize()
        marks.append(clock_ms())
        marked.append(marks)

    with quiet_libraries():
        timed = _timed(row, current, session, query)
    # The first entries are of warm-up queries, which have no samples.
    took = np.diff(marked[-len(timed.samples_ms) :], axis=1).T.tolist()
    return replace(timed, parts_ms={name: tuple(part) for name, part in zip(PARTS, took, strict=True)})


def _timed_on_device(row: Timed, current: CurrentRound, session: Session, subject: Subject) -> Timed:
    """Time inference on the device alone: the time reported by the device timer replaces that of the host's clock."""
    assert session.device_timer is not None
    once = session.device_timer(noise(1, subject.image_size))
    times: list[float] = []
    timed = _timed(row, current, session, lambda: times.append(once()))
    return replace(timed, samples_ms=tuple(times[-len(timed.samples_ms) :]))
