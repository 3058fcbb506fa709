"""Acceptance of reduced precisions, by the confidence interval of the paired difference in accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.records.measurements import Check
from bench.records.schema import RunRecord
from bench.stats.intervals import Interval, paired_difference

MARGIN: Final = -0.01
"""Non-inferiority margin: a reduced precision may cost 1 percentage point of accuracy."""

Word = Literal["accepted", "refused", "too few images to tell", "not checked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """The decision on a runtime's precision.

    ``difference`` is the runtime's accuracy minus the trained model's (a fraction), with its paired 95 % ``interval``.
    """

    word: Word
    difference: float | None = None
    interval: Interval | None = None


def acceptance(check: Check | None) -> Acceptance:
    """Return the decision on a runtime: float32 is accepted, a reduced precision is judged by its accuracy."""
    if check is None or check.parity is None or not check.num_images:
        return Acceptance(word="not checked")
    # Records before version 3 have no paired counts.
    lost, gained = check.parity.only_trained_right, check.parity.only_runtime_right
    if lost is None or gained is None:
        return Acceptance(word="not checked")
    interval = paired_difference(gained, lost, check.num_images)
    difference = (gained - lost) / check.num_images
    return Acceptance(word=_word(check.precision, interval), difference=difference, interval=interval)


def _word(precision: str, interval: Interval) -> Word:
    # The check compares float32 by its logits: if these differ, it fails and there is no parity to judge here.
    if precision == "fp32" or interval.low > MARGIN:
        return "accepted"
    return "refused" if interval.high < MARGIN else "too few images to tell"


def check_of(record: RunRecord, runtime: str) -> Check | None:
    """Return the check of a runtime, or None if it was not checked."""
    return next((check for check in record.checks if check.runtime == runtime), None)


def refused(record: RunRecord, runtime: str) -> bool:
    """Return whether the measurements of a runtime are excluded from the leaderboard."""
    # Only on evidence of a loss: small test splits would otherwise exclude every reduced precision.
    return acceptance(check_of(record, runtime)).word == "refused"


def reasons(record: RunRecord) -> Sequence[str]:
    """Return a line for each refused runtime, with its difference in accuracy in percentage points."""
    lines = []
    for check in record.checks:
        found = acceptance(check)
        if found.word == "refused" and found.interval is not None and found.difference is not None:
            low, high = 100 * found.interval.low, 100 * found.interval.high
            lines.append(
                f"{check.runtime}: accuracy {100 * found.difference:+.1f} pp (95 % CI {low:+.1f} to {high:+.1f})"
            )
    return lines
