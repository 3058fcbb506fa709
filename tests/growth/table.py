"""The table of growth, with the exponents of time."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from tests.growth.stages import Kind

START: Final = "<!-- growth of {}: start -->\n"
END: Final = "<!-- growth of {}: end -->\n"


def growth_table(lines: Sequence[dict[str, Any]], kind: Kind, commit: str, former: str | None) -> str:
    """Return the Markdown table of the figures of one commit, beside those of a former one.

    An exponent is the slope of the logarithm of the seconds over that of the number: 1 is linear.
    """
    lines = [line for line in lines if line["stage"] in kind.stages]
    counts = sorted({line["count"] for line in lines if line["commit"] == commit})
    shown = [commit, *([former] if former else [])]
    latest = {(line["commit"], line["stage"], line["count"]): line for line in lines}
    header = ["step", *(f"{count:,} {kind.unit}" for count in counts), "exponent"]
    rows = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for stage, function in kind.stages.items():
        for version in shown:
            measured = {count: latest[version, stage, count] for count in counts if (version, stage, count) in latest}
            if not measured:
                continue
            cells = [_cell(measured[count]) if count in measured else "" for count in counts]
            title = f"{(function.__doc__ or stage).rstrip('.')}{'' if version == commit else f', before ({version})'}"
            rows.append(f"| {title} | {' | '.join(cells)} | {_exponent(measured)} |")
    return "\n".join([*rows, "", f"Commit {commit}; {dt.datetime.now(dt.UTC):%Y-%m-%d}."]) + "\n"


def _cell(line: dict[str, Any]) -> str:
    return f"{line['seconds']:.1f} s, {line['peak_gib']:.2f} GiB"


def _exponent(measured: dict[int, dict[str, Any]]) -> str:
    # From 100,000 on: below, a second of starting processes is most of the time.
    points = [(np.log(count), np.log(line["seconds"])) for count, line in measured.items() if count >= 100_000]
    if len(points) < 2:
        return ""
    slope = float(np.polyfit(*map(list, zip(*points, strict=True)), 1)[0])
    return f"{slope:.2f}"
