"""Inject every fault, resumably: ``python -m tests.faults FOLDER [--only NAME ...] [--document FILE]``.

What came out is kept in ``FOLDER/faults.jsonl``, a line a trial, and written as the table of ``FILE``.
"""

import argparse
import contextlib
import datetime as dt
import json
import random
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from bench.records.environment import read_commit
from tests.faults import disks, kills, servers, surroundings, users

Inject = Callable[[Path, random.Random], Iterator[str]]


class Fault(NamedTuple):
    """A fault: what it is in words, what injects it, the number of trials, and how often a trial injects it."""

    title: str
    inject: Inject
    trials: int
    injections: int = 1


FAULTS: Final[dict[str, Fault]] = {
    "run-all": Fault("SIGKILL in `run-all`: of all processes, the command or a worker", kills.of_run_all, 10, 5),
    "sweep": Fault("SIGKILL in `sweep --jobs 2`: of all processes, the command or a worker", kills.of_sweep, 10, 5),
    "measure": Fault("SIGKILL in `measure`: of all processes, the command or a worker", kills.of_measure, 6, 5),
    "signals": Fault("SIGTERM, SIGINT, SIGINT twice, SIGHUP to `run-all`", kills.signals, 3, 4),
    "stopped training": Fault("a minute of SIGSTOP in `run-all`", kills.stopped_training, 1),
    "stopped measurement": Fault("a minute of SIGSTOP in `measure`", kills.stopped_measurement, 3),
    "ray": Fault("SIGKILL of a Ray worker in a training", servers.ray_worker, 3),
    "postgresql": Fault("SIGKILL of PostgreSQL's server in `sweep`", servers.postgresql, 3),
    "full results": Fault("full disk of the results, 4 KB to 12 MB", disks.full_results, 8),
    "full cache": Fault("full disk of the cache, 4 KB to 600 KB", disks.full_cache, 3),
    "read-only": Fault("results that become read-only in `run-all`", disks.read_only, 4),
    "removed": Fault("results that are removed in `run-all`", disks.removed, 4),
    "memory": Fault("a worker of `run-all` that gets no more memory", disks.too_little_memory, 6),
    "address space": Fault("`run-all` in 1 to 6 GB of address space (`ulimit -v`)", disks.little_address_space, 3),
    "memory group": Fault("`run-all` in a group of processes with 0.6 to 1.5 GB (cgroup)", disks.memory_group, 4),
    "clock": Fault("a clock set back by an hour in `run-all`", surroundings.clock_set_back, 3),
    "variables": Fault("a C locale, no TERM, 20 columns, no HOME", surroundings.variables, 1, 4),
    "names": Fault('paths with a space, "ü", a line break, 200 characters, escapes, "="', surroundings.names, 1, 6),
    "umask": Fault("umask 077", surroundings.umask, 1),
    "read-only checkout": Fault("a read-only checkout", surroundings.read_only_checkout, 1),
    "no locks": Fault("a file system without locks", surroundings.no_locks, 3),
    "at once": Fault("ten commands at once on one results folder", users.at_once, 2),
    "photos in a run": Fault(
        "a photo replaced, removed or cut, a class renamed in `run-all`", users.changed_meanwhile, 2, 4
    ),
    "photos after a run": Fault("the same between `run-all`, `report` and a repetition", users.changed_later, 1, 4),
}
"""Faults by name."""

START: Final = "<!-- faults: start -->\n"
END: Final = "<!-- faults: end -->\n"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came out of one trial; ``skipped`` is the reason if the fault cannot be injected here."""

    fault: str
    number: int
    commit: str
    took_s: float
    problems: tuple[str, ...] = ()
    skipped: str | None = None


def carry_out(name: str, number: int, folder: Path) -> Trial:
    """Inject a fault once, in a folder of its own, which is kept if something was lost."""
    began, home = time.monotonic(), folder / f"{name.replace(' ', '-')}-{number}"
    shutil.rmtree(home, ignore_errors=True)
    problems, skipped = [], None
    try:
        # The seed is the number: a trial can be repeated, as far as the machine does the same again.
        problems = list(FAULTS[name].inject(home, random.Random(f"{name} {number}")))  # noqa: S311 - not for secrets
    except disks.NotPossibleError as error:
        skipped = str(error)
    except Exception as error:  # noqa: BLE001 - the script's own fault: seen, and the others go on
        problems = [f"{type(error).__name__}: {error} ({traceback.format_exc().strip().splitlines()[-3].strip()})"]
    if not problems:
        with contextlib.suppress(OSError):
            shutil.rmtree(home)
    took_s = round(time.monotonic() - began, 1)
    return Trial(fault=name, number=number, commit=_commit(), took_s=took_s, problems=tuple(problems), skipped=skipped)


def _commit() -> str:
    return (read_commit()[0] or "unknown")[:8]


def read_trials(file: Path) -> list[Trial]:
    """Return the trials of a file; the last one of each number counts."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    latest = {}
    for line in lines:
        trial = Trial(**json.loads(line))
        latest[trial.fault, trial.number] = trial
    return list(latest.values())


def table(trials: Sequence[Trial]) -> str:
    """Return the Markdown table of all faults, and below it what was lost."""
    rows, lost = ["| fault | times | what was lost | s, median |", "|---|---|---|---|"], []
    for name, fault in FAULTS.items():
        made = [trial for trial in trials if trial.fault == name and trial.skipped is None]
        skipped = sorted({trial.skipped for trial in trials if trial.fault == name and trial.skipped})
        times = len(made) * fault.injections
        bad = [trial for trial in made if trial.problems]
        said = (
            "; ".join(skipped) or "not tried"
            if not made
            else f"{len(bad)} of {len(made)} trials, see below"
            if bad
            else "nothing"
        )
        seconds = f"{statistics.median(trial.took_s for trial in made):.0f}" if made else ""
        rows.append(f"| {fault.title} | {times} | {said} | {seconds} |")
        lost += [f"- {fault.title}: {' '.join(problem.split())}" for trial in bad for problem in trial.problems]
    commits = ", ".join(sorted({trial.commit for trial in trials}))
    dated = f"Commits {commits}; {dt.datetime.now(dt.UTC):%Y-%m-%d}."
    return "\n".join([*rows, "", dated, *(["", *lost] if lost else [])]) + "\n"


def write_table(document: Path, content: str) -> None:
    """Replace the table between the markers of a document."""
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    document.write_text(f"{before}{START}{content}{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the trials that are not done, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=FAULTS)
    parser.add_argument("--again", action="store_true", help="repeat the trials that had lost something")
    parser.add_argument("--document", type=Path)
    flags = parser.parse_args(arguments)
    folder = flags.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "faults.jsonl"
    done = {(trial.fault, trial.number) for trial in read_trials(file) if not (flags.again and trial.problems)}
    for name in flags.only:
        for number in range(FAULTS[name].trials):
            if (name, number) in done:
                continue
            trial = carry_out(name, number, folder)
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(trial)) + "\n")
            said = trial.skipped or "; ".join(trial.problems) or "nothing lost"
            print(f"{name} {number}: {said} ({trial.took_s:.0f} s)", flush=True)  # noqa: T201 - a script's progress
    if flags.document is not None:
        write_table(flags.document, table(read_trials(file)))


if __name__ == "__main__":
    main()
