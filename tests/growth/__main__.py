"""Measure how the harness grows: ``python -m tests.growth FOLDER [--counts N ...] [--document FILE]``.

Each step runs in a process of its own, whose seconds and peak memory (with that of its workers) are kept in
``FOLDER/growth.jsonl``: what was measured at this commit is not measured again.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.records.environment import read_commit
from tests.growth.measuring import measure
from tests.growth.photos import write_photos
from tests.growth.stages import STAGES
from tests.growth.table import END, START, growth_table

COUNTS: Final = (10_000, 100_000, 1_000_000)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is not measured yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--document", type=Path)
    parser.add_argument("--of", help="write the figures of this commit, which are measured already")
    parser.add_argument("--former", help="commit whose figures stand beside them")
    flags = parser.parse_args(arguments)
    file, commit = flags.folder / "growth.jsonl", (read_commit()[0] or "unknown")[:8]
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    done = {(line["stage"], line["count"]) for line in map(json.loads, lines) if line["commit"] == commit}
    for count in flags.counts if flags.of is None else ():
        home = flags.folder / f"{count}-{commit}"
        photos = flags.folder / str(count)
        if not (photos / "complete").exists():
            write_photos(photos / "photos", count)
            (photos / "complete").touch()
        home.mkdir(exist_ok=True)
        if not (home / "photos").exists():
            (home / "photos").symlink_to((photos / "photos").resolve())
        for stage in flags.only:
            if (stage, count) in done:
                continue
            line = {"stage": stage, "count": count, "commit": commit, **measure(stage, home, count)}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(line, flush=True)  # noqa: T201 - a script's progress
        shutil.rmtree(home)
    if flags.document is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        table = growth_table([json.loads(line) for line in lines], flags.of or commit, flags.former)
        text = flags.document.read_text(encoding="utf-8")
        before, rest = text.split(START)
        flags.document.write_text(f"{before}{START}{table}{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
