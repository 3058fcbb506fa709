"""Whether a latency may be believed: every rule stands here, and nowhere else."""

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
"""Half-width of the rounds' 95 % interval, over their mean: two valid measurements should agree within 3 %."""

INVALID_HALF_WIDTH: Final = 0.25

DRIFT: Final = 0.02

MODES_APART: Final = 0.05

ASHMANS_D: Final = 3.0
"""Distance of two modes over their common width; over 2 they are apart (Ashman, Bird and Zepf 1994)."""

LEAST_MODE: Final = 0.15

SLOWED: Final = 1.05

LIMITS: Final = {"others": (0.05, 0.25), "steal": (0.02, 0.10), "waited": (0.05, 0.20)}
"""Shares from which a round is disturbed, and from which it is worthless."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is judged: each round's samples in ms and what disturbed it.

    ``cpu_shares`` are the timing thread's CPU time over the clock's, of single-threaded runs on the CPU. ``anchor_ms``
    is the machine's usual best of recent sessions. ``min_queries`` and ``rounds`` are the protocol's.
    """

    samples_ms: Sequence[Sequence[float]]
    disturbances: Sequence[Disturbance]
    cpu_shares: Sequence[float] | None
    anchor_ms: float
    min_queries: int
    rounds: int


ValidityRule = Callable[[Case], str | None]


def judge(case: Case) -> tuple[Validity, str | None]:
    """Return the validity, and all reasons that spoke against "valid"."""
    invalid = [reason for rule in INVALID_RULES if (reason := rule(case))]
    if invalid:
        return "invalid", "; ".join(invalid)
    noisy = [reason for rule in NOISY_RULES if (reason := rule(case))]
    return ("noisy", "; ".join(noisy)) if noisy else ("valid", None)


def medians(case: Case) -> list[float]:
    """Return each round's median in ms."""
    return [statistics.median(samples) for samples in case.samples_ms]


def half_width(case: Case) -> float:
    """Return the half-width of the 95 % interval of the rounds' medians, over their mean."""
    values = medians(case)
    interval = mean_interval(values)
    return (interval.high - interval.low) / 2 / statistics.fmean(values)


def _too_few(case: Case) -> str | None:
    queries = sum(map(len, case.samples_ms))
    if len(case.samples_ms) < case.rounds:
        return f"{len(case.samples_ms)} of {case.rounds} rounds"
    return f"{queries} of {case.min_queries} queries" if queries < case.min_queries else None


def _wide(limit: float) -> ValidityRule:
    def rule(case: Case) -> str | None:
        width = half_width(case)
        return f"rounds differ: p50 +- {100 * width:.1f} %" if width > limit else None

    return rule


def _drifting(case: Case) -> str | None:
    """Find rounds that only rise, or only fall."""
    values = medians(case)
    change = values[-1] / values[0] - 1
    order = abs(float(spearmanr(range(len(values)), values).statistic)) if np.ptp(values) else 0.0
    if len(values) >= 5 and order > 0.999 and abs(change) > DRIFT:  # noqa: PLR2004 - fewer rounds show no trend
        return f"drifts by {100 * change:+.1f} % from the first round to the last"
    return None


def _two_modes(case: Case) -> str | None:
    """Find two kinds of queries within rounds, by a mixture of two normals of the logarithms."""
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415 - slow to import

    logs = np.concatenate([np.log(samples) - np.log(np.median(samples)) for samples in case.samples_ms])
    if len(logs) < 20 or np.ptp(logs) < MODES_APART:  # noqa: PLR2004 - no shape in so few
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixture = GaussianMixture(2, random_state=0, n_init=2).fit(logs[:, None])
    apart = float(np.ptp(mixture.means_))
    width = float(np.sqrt(mixture.covariances_.sum() / 2))
    if mixture.weights_.min() > LEAST_MODE and apart > MODES_APART and apart > ASHMANS_D * width:
        return f"two kinds of queries, {100 * np.expm1(apart):.0f} % apart"
    return None


def _share(values: Sequence[float | None], limit: float, what: str, *, most: bool) -> str | None:
    """Speak where two rounds (or most of them) are over a limit."""
    known = [value for value in values if value is not None]
    over = sum(value > limit for value in known)
    enough = over > len(known) / 2 if most else over >= min(2, len(known))
    return f"{what} {100 * max(known):.0f} %" if known and over and enough else None


def _disturbed(what: str, *, most: bool) -> ValidityRule:
    """Make the rule for one kind of share, by its limit for "noisy", or (``most``) for "invalid"."""
    limit = LIMITS[what][most]

    def rule(case: Case) -> str | None:
        if what == "waited":
            waited = [1 - share for share in case.cpu_shares or ()]
            return _share(waited, limit, "the thread waited for a CPU: up to", most=most)
        if what == "steal":
            return _share([seen.steal_share for seen in case.disturbances], limit, "host took up to", most=most)
        return _share([seen.others_share for seen in case.disturbances], limit, "other processes: up to", most=most)

    return rule


def _slowed(case: Case) -> str | None:
    """Find a machine that was slower than at its best in most rounds, whoever was to blame.

    Where only some rounds were slowed, they differ, which is another rule.
    """
    ratio = statistics.median(seen.anchor_ms for seen in case.disturbances) / case.anchor_ms
    return f"the machine itself ran {ratio:.2f} x slower than at its best" if ratio > SLOWED else None


def _clock(case: Case) -> str | None:
    clocks = [seen.cpu_mhz for seen in case.disturbances if seen.cpu_mhz]
    if clocks and max(clocks) > SLOWED * min(clocks):
        return f"CPU clock between {min(clocks):.0f} and {max(clocks):.0f} MHz"
    return None


def _gpu_throttled(case: Case) -> str | None:
    causes = [seen.gpu.throttled for seen in case.disturbances if seen.gpu is not None and seen.gpu.throttled]
    return f"GPU throttled ({', '.join(sorted(set(sum(causes, ()))))})" if len(causes) > 1 else None


def _gpu_shared(case: Case) -> str | None:
    shared = [seen for seen in case.disturbances if seen.gpu is not None and seen.gpu.foreign_processes]
    return "other processes compute on the GPU" if shared else None


INVALID_RULES: Final[tuple[ValidityRule, ...]] = (
    _too_few,
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
)
