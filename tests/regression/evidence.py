"""Show the guard at work: ten runs on unchanged code, and planted changes; ``python -m tests.regression.evidence``.

Each run is ``nox -s regression`` in a clone of this repository's last commit. What it printed and its report are kept
in the folder given; a run whose report lies there is not repeated.
"""

import argparse
import datetime as dt
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from bench.records.environment import read_environment
from imgcls.files import write_text
from tests.regression.judge import LIMIT
from tests.regression.planted import PLANTED, plant
from tests.regression.versions import ROOT

UNCHANGED: Final = 10


def git(clone: Path, *arguments: str) -> str:
    """Run git as somebody; what it printed."""
    someone = ("-c", "user.name=planted", "-c", "user.email=planted@example.org")
    return subprocess.run(["git", *someone, *arguments], cwd=clone, check=True, capture_output=True, text=True).stdout


def run(name: str, folder: Path) -> Path:
    """Carry out one run in a clone, with the planted change of that name if there is one; the report's path."""
    report = folder / f"{name}.xml"
    if report.exists():
        return report
    with tempfile.TemporaryDirectory() as home:
        clone = Path(home).resolve() / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        base = git(clone, "rev-parse", "HEAD").strip()
        if name in PLANTED:
            plant(PLANTED[name], clone)
        git(clone, "commit", "--quiet", "--all", "--allow-empty", "--message", name)
        aside = report.with_suffix(".partial")
        command = [sys.executable, "-m", "nox", "-s", "regression", "--", "--base", base, f"--junitxml={aside}"]
        environment = os.environ | {"PYTHONPATH": str(clone)}
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
        write_text(done.stdout + done.stderr, report.with_suffix(".txt"))
        aside.replace(report)
    return report


def alarms(report: Path) -> dict[str, str]:
    """Tests that failed or broke, with the first line of why."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        for kind in ("failure", "error"):
            for problem in case.iter(kind):
                found[case.attrib["name"]] = problem.attrib.get("message", "").splitlines()[0]
    return found


def properties(report: Path) -> list[tuple[str, str, str]]:
    """Test, property and value of all that was recorded."""
    return [
        (case.attrib["name"], one.attrib["name"], one.attrib["value"])
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - our own pytest wrote it
        for one in case.iter("property")
    ]


def seconds(report: Path) -> float:
    """Wall time of a run."""
    return sum(float(suite.attrib["time"]) for suite in ET.parse(report).iter("testsuite"))  # noqa: S314 - ours


def bounds(reports: list[Path]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Intervals of all runs by case and clock; what was measured again has a clock of its own name."""
    found: defaultdict[str, defaultdict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for test, name, value in properties(report):
            if (case := re.fullmatch(r".*\[(.*)\]", test)) and " to " in value:
                low, high = map(float, value.split(" to "))
                found[case[1]][name].append((low, high))
    return {case: dict(clocks) for case, clocks in found.items()}


def unchanged_lines(reports: list[Path]) -> list[str]:
    """Return the table of the runs on unchanged code."""
    alarmed = sum(bool(alarms(report)) for report in reports)
    longest = max(map(seconds, reports))
    clocks = ("head/base cpu_s", "head/base wall_s")
    lines = [
        f"**{len(reports)} runs on unchanged code: {alarmed} with an alarm.** The longest took {longest:.0f} s.",
        "",
        "| Case | CPU time: largest lower bound | its interval | wall: largest lower bound | its interval | again |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for case, found in bounds(reports).items():
        cells = []
        for clock in clocks:
            low, high = max(found[clock])
            cells += [f"{low:.3f}", f"{low:.3f} to {high:.3f}"]
        again = len(found.get(f"again, {clocks[0]}", []))
        lines.append(f"| {case} | {' | '.join(cells)} | {again} |")
    return [
        *lines,
        "",
        '"again": runs in which the first interval lay above the limit and fresh processes did not agree.',
    ]


def planted_lines(reports: dict[str, Path]) -> list[str]:
    """Return what each planted change set off."""
    lines = []
    for name, report in reports.items():
        lines += ["", f"**Planted: {PLANTED[name].what}.** {len(alarms(report))} alarm(s):", ""]
        lines += [f"- {test}: {why.removeprefix('AssertionError: ')}" for test, why in alarms(report).items()]
    return lines


def page(unchanged: list[Path], planted: dict[str, Path]) -> str:
    """Return the text of tests/regression/evidence.md."""
    here = read_environment()
    code = (here.git_commit or "unknown")[:8]
    versions = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    lines = [
        "# What the regression guard sees",
        "",
        f"Made by `python -m tests.regression.evidence` on {dt.datetime.now(dt.UTC):%Y-%m-%d}",
        f"({here.machine}, {here.os}, Python {here.python_version}, {versions}; code {code}).",
        f"Each figure is head over base; an alarm needs a 95 % interval wholly above {LIMIT}, twice.",
        "",
        *unchanged_lines(unchanged),
        *planted_lines(planted),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Carry out what is not done, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where reports and outputs are kept")
    folder = parser.parse_args().folder.resolve()
    planted = {name: run(name, folder) for name in PLANTED}
    unchanged = [run(f"unchanged-{turn:02d}", folder) for turn in range(1, UNCHANGED + 1)]
    text = page(unchanged, planted)
    write_text(text, Path(__file__).with_suffix(".md"))


if __name__ == "__main__":
    main()
