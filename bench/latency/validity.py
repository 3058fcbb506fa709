"""All rules that decide whether a latency is valid, noisy or invalid."""

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import spearmanr

from bench.records.measurements import Disturbance, Validity
from bench.stats.intervals import mean_interval

NOISY_HALF_WIDTH: Final = 0.02
"""Half-width of the 95 % interval over rounds, relative to their mean, above which a row is noisy.

In simulations, the p50 values of two valid measurements then agree within 3 % nine times in ten."""

INVALID_HALF_WIDTH: Final = 0.25

DRIFT: Final = 0.02
"""Relative change of the median from the first round to the last, above which a row drifts."""

MODES_APART: Final = 0.05
"""Distance of two modes of the logarithms, about their relative distance."""

ASHMANS_D: Final = 3.0
"""Distance of two modes over their common width; they are separated above 2 (Ashman, Bird and Zepf 1994)."""

LEAST_MODE: Final = 0.15
"""Share of the queries that the smaller mode must have; fewer are outliers."""

SLOWED: Final = 1.05
"""Ratio of an anchor to its reference, and of the highest CPU clock to the lowest, above which a row is noisy."""

LIMITS: Final = {"others": (0.05, 0.25), "steal": (0.02, 0.10), "waited": (0.05, 0.20)}
"""Shares of time above which a round counts as disturbed: for "noisy", and for "invalid"."""


STOPPED_MS: Final = 1000.0
STOPPED_RATIO: Final = 100.0
"""A query that takes longer than both, the second times the median, shows that the process was stopped (SIGSTOP)."""

GPU_SHARED: Final = 0.05
"""Share of a GPU's time used by other processes, in a sample of any round, above which a row is invalid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """The input of the rules: samples in ms and disturbance of each round.

    ``cpu_shares`` are the timing thread's CPU time over the elapsed time, for single-threaded runs on the CPU.
    ``anchor_ms`` is the reference of the anchor from recent sessions. ``min_queries`` and ``rounds`` are those of the
    protocol.
    """

    samples_ms: Sequence[Sequence[float]]
    disturbances: Sequence[Disturbance]
    cpu_shares: Sequence[float] | None
    anchor_ms: float
    min_queries: int
    rounds: int


ValidityRule = Callable[[Case], str | None]


def judge(case: Case) -> tuple[Validity, str | None]:
    """Return the validity, and the reasons if it is not "valid"."""
    invalid = [reason for rule in INVALID_RULES if (reason := rule(case))]
    if invalid:
        return "invalid", "; ".join(invalid)
    noisy = [reason for rule in NOISY_RULES if (reason := rule(case))]
    return ("noisy", "; ".join(noisy)) if noisy else ("valid", None)


def medians(case: Case) -> list[float]:
    """Return the median of each round in ms."""
    return [statistics.median(samples) for samples in case.samples_ms]


def half_width(case: Case) -> float:
    """Return the half-width of the 95 % interval of the rounds' medians, relative to their mean."""
    # Over rounds and not over queries: queries of one process are correlated, and processes differ more.
    values = medians(case)
    interval = mean_interval(values)
    return (interval.high - interval.low) / 2 / statistics.fmean(values)


def _too_few(case: Case) -> str | None:
    queries = sum(map(len, case.samples_ms))
    if len(case.samples_ms) < case.rounds:
        return f"{len(case.samples_ms)} of {case.rounds} rounds"
    return f"{queries} of {case.min_queries} queries" if queries < case.min_queries else None


def _stopped(case: Case) -> str | None:
    # Caches are cold and clocks have changed afterwards, so that the other queries of the round are not usual either.
    longest, usual = max(map(max, case.samples_ms)), statistics.median(medians(case))
    if longest > max(STOPPED_MS, STOPPED_RATIO * usual):
        return f"the process was stopped: a query took {longest / 1000:.1f} s, the median is {usual:.3g} ms"
    return None


def _wide(limit: float) -> ValidityRule:
    def rule(case: Case) -> str | None:
        width = half_width(case)
        return f"rounds differ: p50 +- {100 * width:.1f} %" if width > limit else None

    return rule


def _drifting(case: Case) -> str | None:
    """Find medians that rise or fall in every round."""
    values = medians(case)
    change = values[-1] / values[0] - 1
    # The rank correlation of equal medians is undefined.
    order = abs(float(spearmanr(range(len(values)), values).statistic)) if np.ptp(values) else 0.0
    # 0.999 stands for 1, which rounding may miss. Fewer than five rounds are in order by chance too often.
    if len(values) >= 5 and order > 0.999 and abs(change) > DRIFT:  # noqa: PLR2004
        return f"drifts by {100 * change:+.1f} % from the first round to the last"
    return None


def _two_modes(case: Case) -> str | None:
    """Find a bimodal distribution within rounds, by a mixture of two normal distributions of the logarithms."""
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415 - slow to import

    # Each round is centred at its median: differences between rounds are the subject of another rule.
    logs = np.concatenate([np.log(samples) - np.log(np.median(samples)) for samples in case.samples_ms])
    if len(logs) < 20 or np.ptp(logs) < MODES_APART:  # noqa: PLR2004 - too few for a mixture
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that do not converge: the conditions below judge any fit
        mixture = GaussianMixture(2, random_state=0, n_init=2).fit(logs[:, None])
    apart = float(np.ptp(mixture.means_))
    width = float(np.sqrt(mixture.covariances_.sum() / 2))  # apart / width is Ashman's D
    if mixture.weights_.min() > LEAST_MODE and apart > MODES_APART and apart > ASHMANS_D * width:
        return f"two kinds of queries, {100 * np.expm1(apart):.0f} % apart"
    return None


def _share(values: Sequence[float | None], limit: float, what: str, *, most: bool) -> str | None:
    """Return a reason if two rounds (with ``most``: more than half of them) exceed a limit.

    A single disturbed round is no reason: if it was slower, the rounds differ, which is the subject of another rule.
    """
    shares = [value for value in values if value is not None]
    over = sum(value > limit for value in shares)
    enough = over > len(shares) / 2 if most else over >= min(2, len(shares))
    return f"{what} {100 * max(shares):.0f} %" if shares and over and enough else None


def _disturbed(what: str, *, most: bool) -> ValidityRule:
    """Return the rule for one kind of share, with its limit for "noisy" or (``most``) for "invalid"."""
    limit = LIMITS[what][most]

    def rule(case: Case) -> str | None:
        if what == "waited":
            waited = [1 - share for share in case.cpu_shares or ()]
            return _share(waited, limit, "the thread waited for a CPU: up to", most=most)
        if what == "steal":
            return _share([seen.steal_share for seen in case.disturbances], limit, "stolen by host: up to", most=most)
        return _share([seen.others_share for seen in case.disturbances], limit, "other processes: up to", most=most)

    return rule


def _slowed(case: Case) -> str | None:
    """Find a machine that was slower than its reference in most rounds, for whatever cause.

    If only some rounds were slower, the rounds differ, which is the subject of another rule.
    """
    ratio = statistics.median(seen.anchor_ms for seen in case.disturbances) / case.anchor_ms
    return f"the machine itself was {ratio:.2f} x slower than its reference" if ratio > SLOWED else None


def _clock(case: Case) -> str | None:
    clocks = [seen.cpu_mhz for seen in case.disturbances if seen.cpu_mhz]
    if clocks and max(clocks) > SLOWED * min(clocks):
        return f"CPU clock between {min(clocks):.0f} and {max(clocks):.0f} MHz"
    return None


def _gpu_throttled(case: Case) -> str | None:
    causes = [seen.gpu.throttled for seen in case.disturbances if seen.gpu is not None and seen.gpu.throttled]
    return f"GPU throttled ({', '.join(sorted(set(sum(causes, ()))))})" if len(causes) > 1 else None


def _gpu_shared(case: Case) -> str | None:
    # One round is enough: processes on a GPU take turns on the whole device.
    shares = [seen.gpu.foreign_share for seen in case.disturbances if seen.gpu is not None]
    most = max((share for share in shares if share is not None), default=0.0)
    return f"other processes on the GPU: up to {100 * most:.0f} %" if most > GPU_SHARED else None


def _gpu_unchecked(case: Case) -> str | None:
    unchecked = any(seen.gpu is not None and seen.gpu.foreign_share is None for seen in case.disturbances)
    return "other processes on the GPU: not checked" if unchecked else None


INVALID_RULES: Final[tuple[ValidityRule, ...]] = (
    _too_few,
    _stopped,
    _wide(INVALID_HALF_WIDTH),
    *(_disturbed(what, most=True) for what in LIMITS),
    _gpu_shared,
)

NOISY_RULES: Final[tuple[ValidityRule, ...]] = (
    _wide(NOISY_HALF_WIDTH),
    _drifting,
    _two_modes,
    *(_disturbed(what, most=False) for what in LIMITS),
    _slowed,
    _clock,
    _gpu_throttled,
    _gpu_unchecked,
)
