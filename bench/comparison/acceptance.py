"""Whether a reduced precision may stand in the leaderboard: by the interval of its paired difference of accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bench.records.measurements import Check
from bench.records.schema import RunRecord
from bench.stats.intervals import Interval, paired_difference

MARGIN: Final = -0.01
"""A loss of one point of accuracy is what a reduced precision may cost."""

Word = Literal["accepted", "refused", "too few images to tell", "not checked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """The word on a runtime's precision, and the paired difference of accuracy to the trained model, 95 %."""

    word: Word
    difference: float | None = None
    interval: Interval | None = None


def acceptance(check: Check | None) -> Acceptance:
    """Judge a check: float32 by its logits (a failed parity is a failed check), the others by accuracy."""
    if check is None or check.parity is None or not check.num_images:
        return Acceptance(word="not checked")
    lost, gained = check.parity.only_trained_right, check.parity.only_runtime_right
    if lost is None or gained is None:
        return Acceptance(word="not checked")
    interval = paired_difference(gained, lost, check.num_images)
    difference = (gained - lost) / check.num_images
    return Acceptance(word=_word(check.precision, interval), difference=difference, interval=interval)


def _word(precision: str, interval: Interval) -> Word:
    if precision == "fp32" or interval.low > MARGIN:
        return "accepted"
    return "refused" if interval.high < MARGIN else "too few images to tell"


def check_of(record: RunRecord, runtime: str) -> Check | None:
    """Find what was checked of a runtime."""
    return next((check for check in record.checks if check.runtime == runtime), None)


def refused(record: RunRecord, runtime: str) -> bool:
    """Return whether a runtime's figures are kept out of the leaderboard."""
    return acceptance(check_of(record, runtime)).word == "refused"


def reasons(record: RunRecord) -> Sequence[str]:
    """Return why each refused runtime was refused."""
    lines = []
    for check in record.checks:
        found = acceptance(check)
        if found.word == "refused" and found.interval is not None and found.difference is not None:
            low, high = 100 * found.interval.low, 100 * found.interval.high
            lines.append(
                f"{check.runtime}: accuracy {100 * found.difference:+.1f} pp (95 % CI {low:+.1f} to {high:+.1f})"
            )
    return lines
