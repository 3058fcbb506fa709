"""One round of one runtime: what the measuring process does. It visits every model, and prints a line a row."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TextIO

import msgspec
import numpy as np

from bench.latency.cold_start import noise
from bench.latency.monitoring import watch
from bench.latency.protocol import WARM_UP_QUERIES, Protocol, clock_ms, measure
from bench.records.measurements import Disturbance, Kind
from imgcls.data.decode import decode, to_square
from imgcls.errors import NoDeviceError, RuntimeUnavailableError
from imgcls.inference.card import Card, preprocess
from imgcls.inference.runtimes import RUNTIMES, open_session
from imgcls.inference.session import Session, nothing

PARTS: Final = ("decode", "resize", "normalise", "infer")

MEMORY_WORDS: Final = ("memory", "alloc")


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A model to time: its artifacts, its input size, and test images as files (none if they are not at hand).

    ``card`` comes with the task: reading it from the ONNX file would load a library that is not timed.
    """

    train_id: str
    folder: str
    image_size: int
    files: tuple[str, ...] = ()
    card: Card | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTask:
    """One runtime, every model in this order."""

    runtime: str
    subjects: tuple[Subject, ...]
    threads: int
    protocol: Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One row of one round, all its samples; ``reason`` where there are none."""

    train_id: str
    kind: Kind
    batch_size: int
    reason: str | None = None
    no_device: bool = False
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
    """Says what is tried next, so that a process which is killed has told at what."""

    begun: str
    kind: Kind
    batch_size: int


def run_round(task: RoundTask) -> None:
    """Time every model of a round; each row goes to standard output as a line of JSON when it is done."""
    lines = _own_output()

    def tell(line: Begun | Timed) -> None:
        print(json.dumps(msgspec.to_builtins(line)), file=lines, flush=True)

    for subject in task.subjects:
        for row in _rows(task, subject, tell):
            tell(row)


def _own_output() -> TextIO:
    """Keep standard output for our lines alone: what libraries print goes to standard error."""
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return lines


def _rows(task: RoundTask, subject: Subject, tell: Callable[[Begun | Timed], None]) -> Iterator[Timed]:
    """Try one row after the other; without the first there is no model, and after a batch that fails no larger one."""
    first = Timed(train_id=subject.train_id, kind="host", batch_size=1)
    tell(Begun(begun=subject.train_id, kind="host", batch_size=1))
    try:
        session = open_session(task.runtime, Path(subject.folder), threads=task.threads)
    except Exception as error:  # noqa: BLE001 - a runtime's failure is a row that says so, and the others still run
        yield replace(first, reason=reason_of(error), no_device=isinstance(error, NoDeviceError))
        return
    yield _tried(first, lambda: _timed(first, task, session, _tensor_queries(session, subject, 1)))
    if task.protocol.files and subject.files and subject.card is not None:
        whole = replace(first, kind="file")
        tell(Begun(begun=subject.train_id, kind="file", batch_size=1))
        yield _tried(whole, lambda: _timed_file(whole, task, session, subject))
    if session.device_timer is not None:
        device = replace(first, kind="device")
        tell(Begun(begun=subject.train_id, kind="device", batch_size=1))
        yield _tried(device, lambda: _timed_on_device(device, task, session, subject))
    for batch_size in task.protocol.batch_sizes:
        tell(Begun(begun=subject.train_id, kind="host", batch_size=batch_size))
        row = _tried_batch(replace(first, batch_size=batch_size), task, session, subject)
        yield row
        if row.reason is not None:
            return


def _tried_batch(row: Timed, task: RoundTask, session: Session, subject: Subject) -> Timed:
    return _tried(row, lambda: _timed(row, task, session, _tensor_queries(session, subject, row.batch_size)))


def _tried(row: Timed, time_it: Callable[[], Timed]) -> Timed:
    """Time a row, or say in it why there is no figure."""
    try:
        return time_it()
    except Exception as error:  # noqa: BLE001
        return replace(row, reason=_too_large(error, row.batch_size))


def reason_of(error: Exception) -> str:
    """Return in a line why there is no figure."""
    if isinstance(error, RuntimeUnavailableError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _too_large(error: Exception, batch_size: int) -> str:
    text = f"{type(error).__name__}: {error}".lower()
    if any(word in text for word in MEMORY_WORDS):
        return f"batch {batch_size} does not fit in memory"
    return reason_of(error)


def _tensor_queries(session: Session, subject: Subject, batch_size: int) -> Callable[[], object]:
    images = noise(batch_size, subject.image_size)
    return lambda: session.run(images)


def _timed(row: Timed, task: RoundTask, session: Session, query: Callable[[], object]) -> Timed:
    """Time one row of this round, and watch what disturbs it."""
    single = row.batch_size == 1
    protocol = task.protocol
    finish = watch(cuda=RUNTIMES[task.runtime].cuda)
    samples = measure(
        query,
        session.synchronize if row.kind == "host" else nothing,
        min_queries=-(-protocol.min_queries // protocol.rounds) if single else protocol.min_batches,
        min_duration_s=protocol.duration_s / protocol.rounds if single else protocol.batch_duration_s,
        warm_up=WARM_UP_QUERIES if single else 1,
    )
    alone = session.num_threads == 1 and not RUNTIMES[task.runtime].cuda
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


def _timed_file(row: Timed, task: RoundTask, session: Session, subject: Subject) -> Timed:
    """Time the whole way from an encoded file to a label; its parts are timed within each query."""
    card = subject.card
    assert card is not None, "files are timed with the card of their model"
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

    timed = _timed(row, task, session, query)
    took = np.diff(marked[-len(timed.samples_ms) :], axis=1).T.tolist()
    return replace(timed, parts_ms={name: tuple(part) for name, part in zip(PARTS, took, strict=True)})


def _timed_on_device(row: Timed, task: RoundTask, session: Session, subject: Subject) -> Timed:
    """Time the device alone; each query's own device time replaces what the host's clock saw."""
    assert session.device_timer is not None
    once = session.device_timer(noise(1, subject.image_size))
    times: list[float] = []
    timed = _timed(row, task, session, lambda: times.append(once()))
    return replace(timed, samples_ms=tuple(times[-len(timed.samples_ms) :]))
