"""Rounds to rows: the samples of one model in one runtime, over all rounds, with their validity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.latency.measuring import Timed
from bench.latency.protocol import MAX_SAMPLES, PROTOCOL_VERSION, Protocol, thin, upper_bound
from bench.latency.validity import Case, judge
from bench.records.measurements import Measurement, Round, Validity
from bench.stats.intervals import percentile


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """Which session a measurement belongs to, when that began (UTC), and by which commit."""

    session_id: str
    measured_at: str
    commit: str | None


BOUNDED: Final = 90
"""The percentile whose upper bound goes into the record."""

RECENT: Final = 10
"""Sessions that the reference of the anchor is taken from, the present one included."""

LOW: Final = 25
"""Their percentile. Of five to ten sessions, it lies at the second fastest or above, so that one lucky session does not
move it; and until most of the ten are slow, a slower machine does not pass for the usual one."""


def anchors(rounds: Iterable[Sequence[Timed]]) -> list[float]:
    """Return the anchors of all rows of all rounds."""
    return [row.disturbance.anchor_ms for rows in rounds for row in rows if row.disturbance is not None]


def usual_best(anchors_ms: Sequence[float]) -> float:
    """Return what the machine reaches in a tenth of all rows, in ms: the very least of hundreds is a lucky moment."""
    return percentile(anchors_ms, 10) if anchors_ms else 0.0


def session_bests(rows: Iterable[Measurement]) -> tuple[float, ...]:
    """Return each session's usual best anchor, in ms, oldest first.

    From what its rounds saw. The ``anchor_ms`` of a row is what it was compared with: taken from there, a reference
    would be handed on from session to session for good.
    """
    seen: dict[str, list[float]] = {}
    began: dict[str, str] = {}
    for row in rows:
        session = row.session_id
        if session is None or row.measured_at is None or not row.rounds:
            continue
        seen.setdefault(session, []).extend(part.disturbance.anchor_ms for part in row.rounds)
        began[session] = min(began.get(session, row.measured_at), row.measured_at)
    return tuple(usual_best(seen[session]) for session in sorted(seen, key=began.__getitem__))


def reference_anchor(earlier_ms: Sequence[float], present_ms: float) -> float:
    """Return the anchor, in ms, over which a row counts as slowed: a low percentile of recent sessions' usual best.

    The minimum of all would let one fast session, perhaps a lucky host, mark all later ones as slow. A session faster
    than the others is held to its own usual best, so that its rows stay comparable with each other.
    """
    recent_ms = (*earlier_ms[-(RECENT - 1) :], present_ms)
    return min(present_ms, percentile(recent_ms, LOW))


def combine(  # noqa: PLR0913 - what each row holds
    runtime: str,
    rounds: Mapping[int, Sequence[Timed]],
    *,
    protocol: Protocol,
    threads: int,
    anchor_ms: float,
    stamp: Stamp,
) -> dict[str, tuple[Measurement, ...]]:
    """Return each model's rows by train_id, from what each round (by its number) gave."""
    together: dict[tuple[str, str, int], dict[int, Timed]] = {}
    for number, rows in sorted(rounds.items()):
        for row in rows:
            together.setdefault((row.train_id, row.kind, row.batch_size), {})[number] = row
    made: dict[str, list[Measurement]] = {}
    for (train_id, _kind, _size), timed in together.items():
        made.setdefault(train_id, []).append(
            _row(runtime, timed, protocol=protocol, threads=threads, anchor_ms=anchor_ms, stamp=stamp)
        )
    return {train_id: tuple(rows) for train_id, rows in made.items()}


def _row(  # noqa: PLR0913 - what the row's record holds
    runtime: str,
    timed: Mapping[int, Timed],
    *,
    protocol: Protocol,
    threads: int,
    anchor_ms: float,
    stamp: Stamp,
) -> Measurement:
    first = next(iter(timed.values()))
    for row in timed.values():
        if row.reason is not None:
            return _without_figures(runtime, row, protocol, threads, stamp)
    each = (MAX_SAMPLES if (first.kind, first.batch_size) == ("host", 1) else MAX_SAMPLES // 5) // protocol.rounds
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
        samples_ms=tuple(sample for row in timed.values() for sample in thin(row.samples_ms, each)),
        parts_ms={
            part: tuple(sample for row in timed.values() for sample in thin((row.parts_ms or {})[part], each))
            for part in first.parts_ms or {}
        },
        p90_upper_ms=upper_bound([sample for row in timed.values() for sample in row.samples_ms], BOUNDED),
        anchor_ms=anchor_ms,
        rounds=tuple(_round(number, row, each) for number, row in timed.items()),
        measured_at=stamp.measured_at,
        git_commit=stamp.commit,
    )


def _without_figures(runtime: str, row: Timed, protocol: Protocol, threads: int, stamp: Stamp) -> Measurement:
    """Return a row that gives the reason why it has no figure."""
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


def _round(number: int, row: Timed, each: int) -> Round:
    assert row.disturbance is not None
    return Round(
        number=number,
        num_queries=len(row.samples_ms),
        kept=len(thin(row.samples_ms, each)),
        cpu_share=row.cpu_share,
        disturbance=row.disturbance,
    )


def _judged(timed: Sequence[Timed], protocol: Protocol, anchor_ms: float) -> tuple[Validity | None, str | None]:
    if protocol.rounds == 1:
        return None, None
    shares = [row.cpu_share for row in timed if row.cpu_share is not None]
    single = timed[0].batch_size == 1
    return judge(
        Case(
            samples_ms=[row.samples_ms for row in timed],
            disturbances=[row.disturbance for row in timed if row.disturbance is not None],
            cpu_shares=shares or None,
            anchor_ms=anchor_ms,
            min_queries=protocol.min_queries if single else protocol.min_batches * protocol.rounds,
            rounds=protocol.rounds,
        )
    )
