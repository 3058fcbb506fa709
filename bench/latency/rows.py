"""Combine rounds into rows: the samples of one model in one runtime over all rounds, with their validity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.latency.protocol import MAX_SAMPLES, PROTOCOL_VERSION, Protocol, thin, upper_bound
from bench.latency.round_worker import Timed
from bench.latency.validity import Case, judge
from bench.records.measurements import Measurement, Round, Validity
from bench.stats.intervals import percentile


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """The session of a measurement, the time at which it began (UTC, ISO 8601), and the commit that measured."""

    session_id: str
    measured_at: str
    commit: str | None


BOUNDED: Final = 90
"""Percentile whose upper bound is stored in the record."""

RECENT: Final = 10
"""Number of sessions that the anchor's reference is computed from, including the present one."""

LOW: Final = 25
"""Percentile of these sessions. Of five to ten sessions it is at or above the second fastest, so that a single fast
session has little effect, and a slower machine becomes the reference only after most of the ten sessions were slow."""


def anchors(rounds: Iterable[Sequence[Timed]]) -> list[float]:
    """Return the anchor times in ms of all rows of all rounds."""
    return [row.disturbance.anchor_ms for rows in rounds for row in rows if row.disturbance is not None]


def usual_best(anchors_ms: Sequence[float]) -> float:
    """Return the 10th percentile of anchor times in ms, or 0 without any.

    The minimum of hundreds of values would depend on a single exceptionally fast moment.
    """
    return percentile(anchors_ms, 10) if anchors_ms else 0.0


def session_bests(rows: Iterable[Measurement]) -> tuple[float, ...]:
    """Return the usual best anchor of each session in ms, oldest first, from the anchors of its rounds.

    The ``anchor_ms`` of a row is not used: it is the reference that the row was compared with, so one fast session
    would determine the reference of all later sessions.
    """
    seen: dict[str, list[float]] = {}
    began: dict[str, str] = {}
    for row in rows:
        session = row.session_id
        if session is None or row.measured_at is None or not row.rounds:
            continue  # a failed row, or one of a protocol without sessions
        seen.setdefault(session, []).extend(part.disturbance.anchor_ms for part in row.rounds)
        began[session] = min(began.get(session, row.measured_at), row.measured_at)
    return tuple(usual_best(seen[session]) for session in sorted(seen, key=began.__getitem__))


def reference_anchor(earlier_ms: Sequence[float], present_ms: float) -> float:
    """Return the anchor in ms that rows are compared with: a low percentile of the usual best of recent sessions.

    The minimum would mark all sessions after one fast session as slow. If the present session is faster than this
    percentile, its own usual best is the reference, so that its rows are compared with each other.
    """
    recent_ms = (*earlier_ms[-(RECENT - 1) :], present_ms)
    return min(present_ms, percentile(recent_ms, LOW))


def combine(  # noqa: PLR0913 - the fields of each row
    runtime: str,
    rounds: Mapping[int, Sequence[Timed]],
    *,
    protocol: Protocol,
    threads: int,
    anchor_ms: float,
    stamp: Stamp,
) -> dict[str, tuple[Measurement, ...]]:
    """Return the rows of each model by train_id, from the rows of each round by its number."""
    together: dict[tuple[str, str, int], dict[int, Timed]] = {}
    for number, rows in sorted(rounds.items()):  # in the order of time, in which the drift rule reads them
        for row in rows:
            together.setdefault((row.train_id, row.kind, row.batch_size), {})[number] = row
    made: dict[str, list[Measurement]] = {}
    for (train_id, _kind, _size), timed in together.items():
        made.setdefault(train_id, []).append(
            _row(runtime, timed, protocol=protocol, threads=threads, anchor_ms=anchor_ms, stamp=stamp)
        )
    return {train_id: tuple(rows) for train_id, rows in made.items()}


def _row(  # noqa: PLR0913 - the fields of the record
    runtime: str,
    timed: Mapping[int, Timed],
    *,
    protocol: Protocol,
    threads: int,
    anchor_ms: float,
    stamp: Stamp,
) -> Measurement:
    first = next(iter(timed.values()))
    # One failed round fails the row: too few rounds would be invalid anyway, and the failure is the better reason.
    for row in timed.values():
        if row.reason is not None:
            return _without_figures(runtime, row, protocol, threads, stamp)
    # A limit for each round, so that a fast round does not outweigh a slow one among the stored samples.
    limit = (MAX_SAMPLES if (first.kind, first.batch_size) == ("host", 1) else MAX_SAMPLES // 5) // protocol.rounds
    validity, reason = _judged(list(timed.values()), protocol, anchor_ms)
    return Measurement(
        runtime=runtime,
        kind=first.kind,
        batch_size=first.batch_size,
        status="ok",
        validity=validity,
        reason=reason,
        protocol=protocol.name,
        protocol_version=PROTOCOL_VERSION,
        session_id=stamp.session_id,
        provider=first.provider,
        precision=first.precision,
        num_threads=first.num_threads,
        settings=first.settings or {},
        num_queries=sum(len(row.samples_ms) for row in timed.values()),
        samples_ms=tuple(sample for row in timed.values() for sample in thin(row.samples_ms, limit)),
        parts_ms={
            part: tuple(sample for row in timed.values() for sample in thin((row.parts_ms or {})[part], limit))
            for part in first.parts_ms or {}
        },
        # From all samples, not the stored ones: the bound depends on the number of queries.
        p90_upper_ms=upper_bound([sample for row in timed.values() for sample in row.samples_ms], BOUNDED),
        anchor_ms=anchor_ms,
        rounds=tuple(_round(number, row, limit) for number, row in timed.items()),
        measured_at=stamp.measured_at,
        git_commit=stamp.commit,
    )


def _without_figures(runtime: str, row: Timed, protocol: Protocol, threads: int, stamp: Stamp) -> Measurement:
    """Return a row without samples, with the reason why there are none."""
    return Measurement(
        runtime=runtime,
        kind=row.kind,
        batch_size=row.batch_size,
        status="not measured" if row.no_device else "failed",
        protocol=protocol.name,
        session_id=stamp.session_id,
        reason=row.reason,
        num_threads=threads,
        protocol_version=PROTOCOL_VERSION,
        measured_at=stamp.measured_at,
        git_commit=stamp.commit,
    )


def _round(number: int, row: Timed, limit: int) -> Round:
    assert row.disturbance is not None
    return Round(
        number=number,
        num_queries=len(row.samples_ms),
        kept=len(thin(row.samples_ms, limit)),
        cpu_share=row.cpu_share,
        disturbance=row.disturbance,
    )


def _judged(timed: Sequence[Timed], protocol: Protocol, anchor_ms: float) -> tuple[Validity | None, str | None]:
    if protocol.rounds == 1:
        return None, None  # most rules compare rounds
    shares = [row.cpu_share for row in timed if row.cpu_share is not None]
    single = timed[0].batch_size == 1
    return judge(
        Case(
            samples_ms=[row.samples_ms for row in timed],
            disturbances=[row.disturbance for row in timed if row.disturbance is not None],
            cpu_shares=shares or None,  # none are recorded with several threads or on CUDA
            anchor_ms=anchor_ms,
            min_queries=protocol.min_queries if single else protocol.min_batches * protocol.rounds,
            rounds=protocol.rounds,
        )
    )
