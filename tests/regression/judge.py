"""Verdicts on two versions from figures alone: how long, how right, how large."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import binomtest
from scipy.stats.mstats import trimmed_mean_ci

from bench.stats.intervals import Interval

LIMIT: Final = 1.05
"""A case is slower where the interval of head over base lies wholly above this."""
TRIM: Final = 0.2
"""Share of rounds left out at each end: another process's burst makes a few rounds wild, either way."""
SIGNIFICANT: Final = 0.01
"""Two-sided p below which two versions' answers differ."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Images that only one version labels rightly, and the two-sided p of McNemar's exact test."""

    only_base_right: int
    only_head_right: int
    p: float

    @property
    def worse(self) -> bool:
        """Return whether the head is right significantly less often."""
        return self.p < SIGNIFICANT and self.only_head_right < self.only_base_right


def ratio_interval(ratios: Sequence[float]) -> Interval:
    """95 % t interval of the trimmed mean log ratio (Tukey and McLaughlin 1963), as a ratio."""
    low, high = trimmed_mean_ci(np.log(ratios), limits=(TRIM, TRIM))
    return Interval(low=math.exp(low), high=math.exp(high))


def slower(ratios: Sequence[float]) -> bool:
    """Return whether rounds of head over base show a slow-down that is surely more than the limit."""
    return ratio_interval(ratios).low > LIMIT


def paired(truth: Sequence[object], base: Sequence[object], head: Sequence[object]) -> Paired:
    """Compare two versions' answers to the same images (McNemar 1947, exact)."""
    rows = list(zip(truth, base, head, strict=True))
    only_base = sum(is_base == true != is_head for true, is_base, is_head in rows)
    only_head = sum(is_head == true != is_base for true, is_base, is_head in rows)
    discordant = only_base + only_head
    p = float(binomtest(only_base, discordant).pvalue) if discordant else 1.0
    return Paired(only_base_right=only_base, only_head_right=only_head, p=p)


def exact_changes(base: dict[str, float], head: dict[str, float]) -> list[str]:
    """Name what is not exactly equal, old and new; what one lacks counts as 0."""
    return [
        f"{name}: {base.get(name, 0)} -> {head.get(name, 0)}"
        for name in sorted(base.keys() | head.keys())
        if base.get(name, 0) != head.get(name, 0)
    ]


def operators(types: Sequence[str]) -> dict[str, float]:
    """Count nodes by operator type."""
    return {f"ONNX nodes {name}": float(count) for name, count in Counter(types).items()}
