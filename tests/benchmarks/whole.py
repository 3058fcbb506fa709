"""Where the seconds of ``run-all`` go: ``python -m tests.benchmarks.whole RESULTS [FLAG ...]``.

Carries out ``python -m bench run-all --results RESULTS FLAG ...`` and prints a table of the seconds between the lines
that it writes. What has no line of its own at its beginning is known from the records: a training begins an epoch's
time before the line of the first epoch, and a run ends after its duration. The last line is the ratio of the whole
command to its parts: training, evaluation, export and measuring.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from bench.records.store import read_records

PLAN: Final = "start of the command: imports, audit, pixels, plan"
START: Final = "start of the runs: imports, data, networks"
TRAINING: Final = "training, evaluation of val and test"
EXPORT: Final = "export, and comparison with the trained network"
MEASURING: Final = "measuring"
END: Final = "leaderboard"
PARTS: Final = (TRAINING, EXPORT, MEASURING)
BEGINS: Final = {r"\[\d+/\d+\] ": START, r"  epoch 1/": TRAINING, r"  exporting ": EXPORT}
"""Lines after which another part begins."""


def seconds_of(results: Path, flags: list[str]) -> Counter[str]:
    """Carry the command out, and return the seconds of each part."""
    command = [sys.executable, "-m", "bench", "run-all", "--results", str(results), *flags]
    spent, part, since, last_run = Counter[str](), PLAN, time.perf_counter(), 0.0
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            now = time.perf_counter()
            print(f"{now - since:8.2f} {line}", end="", file=sys.stderr)  # noqa: T201
            measuring = line.startswith("  measuring ")
            spent[MEASURING if measuring else part] += now - since
            since = now
            for pattern, begun in BEGINS.items():
                if re.match(pattern, line):
                    part = begun
                    last_run = now if begun == START else last_run
            if measuring:
                part = END
            if part == EXPORT:
                exporting = now
    spent[part] += time.perf_counter() - since
    records = sorted(read_records(results), key=lambda record: record.started_at)
    # The line of the first epoch comes at its end.
    for training in (record.finished.training for record in records):
        first = training.history[0]
        before_s = training.head_time_s + first.train_time_s + first.eval_time_s
        spent.update({START: -before_s, TRAINING: before_s})
    # The export of the last run ends without a line.
    export_s = records[-1].duration_s - (exporting - last_run)
    spent.update({MEASURING: -export_s, EXPORT: export_s})
    return spent


def main(results: str, *flags: str) -> None:
    """Print the table."""
    spent = seconds_of(Path(results), list(flags))
    whole = sum(spent.values())
    print("| part | seconds | share |\n|---|---|---|")  # noqa: T201
    for part in (PLAN, START, *PARTS, END):
        print(f"| {part} | {spent[part]:.1f} | {spent[part] / whole:.1%} |")  # noqa: T201
    print(f"\n{whole:.0f} s, {whole / sum(spent[part] for part in PARTS):.3f} times its parts")  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
