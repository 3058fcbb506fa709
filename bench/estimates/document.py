"""The estimated cost of a grid of runs as a document."""

from collections.abc import Sequence
from typing import Final

from bench.config import of_the_table
from bench.estimates.estimating import Estimate
from bench.render.documents import NO_VALUE, Block, Number, Words, bullets, table

TENTHS: Final = 10.0
"""Minutes below which tenths are shown."""


def estimate_document(estimates: Sequence[Estimate]) -> list[Block]:
    """Return the cost of each setting of a grid, and of all of it."""
    titles = ("Model", "Setting", "Runs", "Minutes", "Step, s", "Memory, GB", "Disk, MB")
    probed = [estimate for estimate in estimates if estimate.error is None]
    failed = [
        f"{estimate.task.config.model}: not estimated: {estimate.error}" for estimate in estimates if estimate.error
    ]
    rows = [_row(estimate) for estimate in estimates]
    return [*table(titles, rows, left=2, keep=len(titles)), *bullets([*_whole(probed), *failed])]


def _row(estimate: Estimate) -> list[Words]:
    config = estimate.task.config
    shared = of_the_table(config.budget)
    setting = ", ".join(f"{name}={value}" for name, value in config.overrides.items() if name not in shared) or "-"
    runs = f"{estimate.runs} ({estimate.done} done)" if estimate.done else str(estimate.runs)
    start: list[Words] = [estimate.task.config.model, setting, runs]
    if estimate.error is not None:
        return [*start, "not estimated", "", "", ""]
    if not estimate.runs:
        return [*start, *[NO_VALUE] * 4]
    low, high = estimate.least_s / 60, estimate.most_s / 60
    return [
        *start,
        Number(estimate.seconds / 60, low, high, ".1f"),
        NO_VALUE if estimate.step_s is None else Number(estimate.step_s, spec=".3g"),
        Number(estimate.memory_bytes / 1e9, spec=".1f"),
        Number(estimate.disk_bytes / 1e6, spec=".0f"),
    ]


def _whole(probed: Sequence[Estimate]) -> list[str]:
    middle, least, most = (
        sum(estimate.runs * getattr(estimate, name) + estimate.measure_s for estimate in probed) / 60
        for name in ("seconds", "least_s", "most_s")
    )
    disk = sum(estimate.runs * estimate.disk_bytes for estimate in probed) + max(
        (estimate.state_bytes for estimate in probed), default=0
    )
    memory = max((estimate.memory_bytes for estimate in probed), default=0)
    minutes = f"{_minutes(middle)} minutes ({_minutes(least)} to {_minutes(most)})"
    load = 100 * max((estimate.others_share for estimate in probed), default=0.0)
    return [
        f"all: {minutes}, up to {memory / 1e9:.1f} GB of memory, {disk / 1e6:,.0f} MB of disk",
        "The ranges are from the quartiles of the steps; audit and pixel cache are not included.",
        f"Other processes used up to {load:.0f} % of the CPU.",
    ]


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < TENTHS else f"{value:.0f}"
