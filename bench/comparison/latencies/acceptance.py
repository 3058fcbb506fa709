"""Acceptance of reduced precisions, by the confidence interval of the paired difference in accuracy."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.records.measurements import Check
from bench.records.schema import RunRecord
from bench.stats.intervals import Interval, paired_difference
from imgcls.inference.runtimes import RUNTIMES

MARGIN: Final = -0.01
"""Non-inferiority margin: a reduced precision may cost 1 percentage point of accuracy."""

Word = Literal["accepted", "refused", "too few images to tell", "not checked"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """The decision on a runtime's precision.

    ``difference`` is the runtime's accuracy minus the trained model's (a fraction), with its paired 95 % ``interval``.
    ``machine`` is the one that ran the test images, if another one than that of the decision; else None.
    """

    word: Word
    difference: float | None = None
    interval: Interval | None = None
    machine: str | None = None


def acceptance(check: Check | None) -> Acceptance:
    """Return the decision on a runtime: float32 is accepted, a reduced precision is judged by its accuracy."""
    # Synthetic inputs have no true class: they show nothing about accuracy.
    if check is None or check.parity is None or not check.num_images or check.inputs == "synthetic":
        return Acceptance(word="not checked")
    # Records before version 3 have no paired counts.
    lost, gained = check.parity.only_trained_right, check.parity.only_runtime_right
    if lost is None or gained is None:
        return Acceptance(word="not checked")
    interval = paired_difference(gained, lost, check.num_images)
    difference = (gained - lost) / check.num_images
    word: Word = "refused" if interval.high < MARGIN else "too few images to tell"
    # The check compares float32 by its logits: if these differ, it fails and there is no parity to judge here.
    if check.precision == "fp32" or interval.low > MARGIN:
        word = "accepted"
    return Acceptance(word=word, difference=difference, interval=interval)


def check_of(record: RunRecord, runtime: str, machine: str) -> Check | None:
    """Return the check of a runtime on a machine, or None if it was not checked there."""
    return next((check for check in record.on(machine).checks if check.runtime == runtime), None)


def acceptance_on(record: RunRecord, runtime: str, machine: str) -> Acceptance:
    """Return the decision on a runtime on a machine; without test images there, that of the record's own machine.

    That one counts for the same model file only, and to accept it, the logits must have been compared on ``machine``.
    """
    home = record.environment.machine
    here, judging = check_of(record, runtime, machine), check_of(record, runtime, home)
    decision = acceptance(here)
    if machine == home or decision.word != "not checked":
        return decision
    if here is None or judging is None or here.made_from != judging.made_from:
        return decision
    judged = acceptance(judging)
    if judged.word == "not checked" or (here.parity is None and judged.word != "refused"):
        return decision
    return replace(judged, machine=home)


def refused(record: RunRecord, runtime: str, machine: str) -> bool:
    """Return whether the measurements of a runtime on a machine are excluded from the leaderboard."""
    # Only on evidence of a loss: small test splits would otherwise exclude every reduced precision.
    return acceptance_on(record, runtime, machine).word == "refused"


def admitted(record: RunRecord, runtime: str, machine: str) -> bool:
    """Return whether a latency of a runtime may stand beside the accuracy of a run.

    float32 computes what was trained. The accuracy of a reduced precision belongs to the weights, so that it must have
    been checked for this run, and not refused.
    """
    word = acceptance_on(record, runtime, machine).word
    # A record of another version may name a runtime that is not in the registry.
    full = runtime in RUNTIMES and RUNTIMES[runtime].precision == "fp32"
    return word != "refused" and (full or word != "not checked")


def reasons(record: RunRecord, machine: str) -> list[tuple[str, Acceptance]]:
    """Return the runtimes that are refused on a machine, each with its decision."""
    decisions = [(check.runtime, acceptance_on(record, check.runtime, machine)) for check in record.on(machine).checks]
    return [(runtime, decision) for runtime, decision in decisions if decision.word == "refused"]
