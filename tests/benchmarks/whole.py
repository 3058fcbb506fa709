"""Where the seconds of ``run-all`` go: ``python -m tests.benchmarks.whole RESULTS [FLAG ...]``.

Carries out ``python -m bench run-all --results RESULTS FLAG ...`` and prints a table of the seconds between the lines
that it writes. Training begins an epoch's time before the line of the first epoch. The last line is the ratio of the
whole command to its parts: training, evaluation, export and measuring.
"""

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

from bench.records.store import read_records

STARTS: Final = {
    r"\[\d+/\d+\] ": "start of a run: imports, data, network",
    r"  exporting ": "export, comparison with the trained network",
    r"measuring": "measuring",
    r"(written|resnet|efficient|inception|Minimum|By )": "leaderboard",
}
"""What begins with a line, by its pattern."""
PLAN: Final = "start of the command: imports, audit, pixels, plan"
START, EXPORT, MEASURING, END = STARTS.values()
TRAINING: Final = "training, evaluation of val and test"
PARTS: Final = (TRAINING, EXPORT, MEASURING)


def seconds_of(results: Path, flags: list[str]) -> Counter[str]:
    """Carry the command out, and return the seconds of each part."""
    command = [sys.executable, "-m", "bench", "run-all", "--results", str(results), *flags]
    spent, part, since = Counter[str](), PLAN, time.perf_counter()
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
        assert child.stdout is not None
        for line in child.stdout:
            now = time.perf_counter()
            print(f"{now - since:8.2f} {line}", end="", file=sys.stderr)  # noqa: T201
            spent[part] += now - since
            since = now
            if re.match(r"  epoch 1/", line):
                part = TRAINING
            for pattern, begun in STARTS.items():
                if re.match(pattern, line):
                    part = begun
    spent[part] += time.perf_counter() - since
    trained = [record.finished.training for record in read_records(results)]
    # The first epoch was counted as the start of its run.
    firsts = [(training.head_time_s, training.history[0]) for training in trained]
    epochs_s = sum(head_s + epoch.train_time_s + epoch.eval_time_s for head_s, epoch in firsts)
    spent[START] -= epochs_s
    spent[TRAINING] += epochs_s
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
