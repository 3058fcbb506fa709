"""What training, scoring and export give, as plain data: importing it costs nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """One class on one split; a ratio without a denominator is None, not 0."""

    class_name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A temperature fitted on val (Guo et al. 2017), and what test shows when the logits are divided by it."""

    temperature: float
    test_log_loss: float
    test_ece: float
