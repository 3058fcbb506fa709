"""How noisy a measuring session was, and which of its rows are worse than the rest of it.

A mark on every row of a table says nothing: what holds for the whole session is one sentence about the machine.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from bench.records.measurements import Measurement
from bench.stats.intervals import Interval, mean_interval, percentile

LEAST_ROUNDS: Final = 2

OUTLIER: Final = 2.0
"""A row is marked from this many times its session's median half-width on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The judged rows of one session: how many, how many of them noisy, and their median relative half-width."""

    rows: int
    noisy: int
    half_width: float

    @property
    def mostly_noisy(self) -> bool:
        """Return whether noise is the machine's: more than half of the rows have it."""
        return 2 * self.noisy > self.rows


Sessions = Mapping[str | None, Session]


def sessions_of(measurements: Iterable[Measurement]) -> dict[str | None, Session]:
    """Return every session of some rows that were judged, by session id."""
    judged: defaultdict[str | None, list[Measurement]] = defaultdict(list)
    for row in measurements:
        if row.has_figures and row.validity is not None:
            judged[row.session_id].append(row)
    return {session_id: _session(rows) for session_id, rows in judged.items()}


def _session(rows: Sequence[Measurement]) -> Session:
    widths = [width for row in rows if (width := relative_half_width(row)) is not None]
    return Session(
        rows=len(rows),
        noisy=sum(row.validity == "noisy" for row in rows),
        half_width=statistics.median(widths) if widths else 0.0,
    )


def is_outlier(row: Measurement, sessions: Sessions) -> bool:
    """Return whether a noisy row is worse than its session.

    In a session that is mostly noisy, those rows are that are at least ``OUTLIER`` times as wide as its median.
    """
    session = sessions.get(row.session_id)
    if row.validity != "noisy" or session is None:
        return False
    width = relative_half_width(row)
    return not session.mostly_noisy or (width is not None and width >= OUTLIER * session.half_width)


def round_samples(row: Measurement) -> list[tuple[float, ...]]:
    """Divide a row's samples into its rounds; a row that knows no rounds is one."""
    if not row.rounds:
        return [row.samples_ms]
    ends = np.cumsum([0, *(part.kept for part in row.rounds)]).tolist()
    return [row.samples_ms[start:end] for start, end in pairwise(ends)]


def over_rounds(row: Measurement, percent: int) -> list[float]:
    """Return a percentile of each round, in ms."""
    return [percentile(samples, percent) for samples in round_samples(row) if samples]


def interval_over_rounds(row: Measurement, percent: int) -> Interval | None:
    """Return the t interval of the rounds' own percentiles, in ms; None for a single round."""
    each = over_rounds(row, percent)
    if len(each) < LEAST_ROUNDS:
        return None
    found = mean_interval(each)
    return Interval(low=max(found.low, 0.0), high=found.high)


def relative_half_width(row: Measurement, percent: int = 50) -> float | None:
    """Return half the width of the rounds' 95 % t interval over their mean; None for a single round."""
    each = over_rounds(row, percent)
    if len(each) < LEAST_ROUNDS:
        return None
    found = mean_interval(each)
    return (found.high - found.low) / 2 / statistics.fmean(each)
