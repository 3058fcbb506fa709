"""Measure how the harness grows: ``python -m tests.growth FOLDER [--kinds KIND ...] [--document FILE]``.

Each step runs in a process of its own, whose seconds and peak memory (with that of its workers) are kept in
``FOLDER/growth.jsonl``: what was measured at this commit is not measured again.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.records.environment import read_commit
from tests.growth.measuring import measure
from tests.growth.stages import EVERY, KINDS, Kind
from tests.growth.table import END, START, growth_table


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--counts", nargs="+", type=int, help="instead of those of each kind")
    parser.add_argument("--only", nargs="+", choices=EVERY, default=list(EVERY))
    parser.add_argument("--document", type=Path)
    parser.add_argument("--of", help="write the figures of this commit, which are measured already")
    parser.add_argument("--former", help="commit whose figures stand beside them")
    flags = parser.parse_args(arguments)
    file, commit = flags.folder / "growth.jsonl", (read_commit()[0] or "unknown")[:8]
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {(line["stage"], line["count"]) for line in map(json.loads, lines) if line["commit"] == commit}
    for name in flags.kinds if flags.of is None else ():
        kind = KINDS[name]
        for count in flags.counts or kind.counts:
            waiting = [stage for stage in kind.stages if stage in flags.only and (stage, count) not in done]
            if waiting:
                _measure(waiting, kind, flags.folder / f"{name}-{count}", count, file, commit)
    if flags.document is not None:
        every = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        text = flags.document.read_text(encoding="utf-8")
        for name in flags.kinds:
            start, end = START.format(name), END.format(name)
            before, rest = text.split(start)
            table = growth_table(every, KINDS[name], flags.of or commit, flags.former)
            text = f"{before}{start}{table}{end}{rest.split(end)[1]}"
        flags.document.write_text(text, encoding="utf-8")


def _measure(stages: Sequence[str], kind: Kind, made: Path, count: int, file: Path, commit: str) -> None:  # noqa: PLR0913, PLR0917 - what is measured, and where
    """Carry out some steps in their order; what they read is made once, for all commits."""
    source = made / kind.folder
    if not (made / "complete").exists():
        kind.write(source, count)
        (made / "complete").touch()
    home = made.with_name(f"{made.name}-{commit}")
    home.mkdir(exist_ok=True)
    if not (home / source.name).exists():
        (home / source.name).symlink_to(source.resolve())
    for stage in stages:
        line = {"stage": stage, "count": count, "commit": commit, **measure(stage, home, count)}
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        print(line, flush=True)  # noqa: T201 - a script's progress
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
