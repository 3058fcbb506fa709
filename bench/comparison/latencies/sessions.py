"""Noise of measurement sessions, and the rows that are noisier than the rest of their session.

A mark on every row of a table carries no information: noise of a whole session is reported in one sentence.
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
"""A row of a noisy session is marked if its half-width is at least this multiple of the session's median."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Numbers of judged and of noisy rows of one session, and their median relative half-width."""

    rows: int
    noisy: int
    half_width: float

    @property
    def mostly_noisy(self) -> bool:
        """Whether more than half of the rows are noisy, which points to the machine instead of the rows."""
        return 2 * self.noisy > self.rows


Sessions = Mapping[str | None, Session]


def sessions_of(measurements: Iterable[Measurement]) -> dict[str | None, Session]:
    """Return the sessions of those rows that have a validity, by session id."""
    judged: defaultdict[str | None, list[Measurement]] = defaultdict(list)
    for row in measurements:
        # Quick and failed rows have no interval over rounds, and invalid rows are not shown.
        if row.has_figures and row.validity is not None:
            judged[row.session_id].append(row)
    return {session_id: _session(rows) for session_id, rows in judged.items()}


def _session(rows: Sequence[Measurement]) -> Session:
    widths = [width for row in rows if (width := relative_half_width(row)) is not None]
    return Session(
        rows=len(rows),
        noisy=sum(row.validity == "noisy" for row in rows),
        # A median, as the outliers to be found would raise a mean.
        half_width=statistics.median(widths) if widths else 0.0,
    )


def is_outlier(row: Measurement, sessions: Sessions) -> bool:
    """Return whether a noisy row is noisier than its session.

    In a session that is mostly noisy, this holds for half-widths of at least ``OUTLIER`` times the session's median; in
    any other session, for every noisy row.
    """
    session = sessions.get(row.session_id)
    if row.validity != "noisy" or session is None:
        return False
    width = relative_half_width(row)
    return not session.mostly_noisy or (width is not None and width >= OUTLIER * session.half_width)


def round_samples(row: Measurement) -> list[tuple[float, ...]]:
    """Return a row's samples in ms by round; a row without rounds (schema 1 and 2) is one round."""
    if not row.rounds:
        return [row.samples_ms]
    # Samples are stored once, in the order of rounds, and each round stores how many of them belong to it.
    ends = np.cumsum([0, *(part.kept for part in row.rounds)]).tolist()
    return [row.samples_ms[start:end] for start, end in pairwise(ends)]


def over_rounds(row: Measurement, percent: int) -> list[float]:
    """Return a percentile of the samples of each round, in ms."""
    return [percentile(samples, percent) for samples in round_samples(row) if samples]


def interval_over_rounds(row: Measurement, percent: int) -> Interval | None:
    """Return the 95 % t interval of a percentile over rounds, in ms, or None for a single round."""
    # Over rounds and not over queries: processes differ more from each other than the queries of one process.
    percentiles = over_rounds(row, percent)
    if len(percentiles) < LEAST_ROUNDS:
        return None
    interval = mean_interval(percentiles)
    # With few rounds a t interval may extend below 0, but a latency cannot be negative.
    return Interval(low=max(interval.low, 0.0), high=interval.high)


def relative_half_width(row: Measurement, percent: int = 50) -> float | None:
    """Return half the width of a percentile's 95 % t interval over rounds, relative to its mean; None for one round."""
    percentiles = over_rounds(row, percent)
    if len(percentiles) < LEAST_ROUNDS:
        return None
    interval = mean_interval(percentiles)
    return (interval.high - interval.low) / 2 / statistics.fmean(percentiles)
