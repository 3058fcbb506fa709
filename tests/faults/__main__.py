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
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.faults import disks, kills, servers, surroundings, users
from tests.faults.subjects import ROOT

Inject = Callable[[Path, random.Random], Iterator[str]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault: what it is in words, the number of trials, and how often a trial injects it."""

    title: str
    inject: Inject
    trials: int
    injections: int = 1


FAULTS: Final[dict[str, Fault]] = {
    "run-all": Fault(title="SIGKILL of `run-all`: all processes, the command or a worker", inject=kills.kills_of_run_all, trials=10, injections=5),
    "sweep": Fault(title="SIGKILL of `sweep --jobs 2`: all processes, the command or a worker", inject=kills.kills_of_sweep, trials=10, injections=5),
    "measure": Fault(title="SIGKILL of `measure`: all processes, the command or a worker", inject=kills.kills_of_measure, trials=6, injections=5),
    "signals": Fault(title="SIGTERM, SIGINT, SIGINT twice, SIGHUP of `run-all`", inject=kills.signals, trials=3, injections=4),
    "stopped training": Fault(title="a minute of SIGSTOP in `run-all`", inject=kills.stopped_training, trials=2),
    "stopped measurement": Fault(title="a minute of SIGSTOP in `measure`", inject=kills.stopped_measurement, trials=3),
    "ray": Fault(title="SIGKILL of a Ray worker in a training", inject=servers.ray_worker, trials=3),
    "postgresql": Fault(title="SIGKILL of PostgreSQL's server in `sweep`", inject=servers.postgresql, trials=3),
    "full results": Fault(title="full disk of the results, 4 KB to 12 MB", inject=disks.full_results, trials=12),
    "full cache": Fault(title="full disk of the cache, 4 KB to 600 KB", inject=disks.full_cache, trials=6),
    "read-only": Fault(title="results become read-only in `run-all`", inject=disks.read_only, trials=4),
    "removed": Fault(title="results are removed in `run-all`", inject=disks.removed, trials=4),
    "memory": Fault(title="a worker of `run-all` gets no more memory", inject=disks.too_little_memory, trials=8),
    "address space": Fault(title="`run-all` in 1 to 6 GB of address space (`ulimit -v`)", inject=disks.little_memory_from_the_start, trials=4),
    "clock": Fault(title="clock set back an hour in `run-all`", inject=surroundings.clock_set_back, trials=3),
    "variables": Fault(title="C locale, no TERM, 20 columns, no HOME", inject=surroundings.variables, trials=1, injections=4),
    "names": Fault(title="paths with spaces, Unicode, a line break, 200 characters, escapes, a formula", inject=surroundings.names, trials=1, injections=6),
    "umask": Fault(title="umask 077", inject=surroundings.umask, trials=1),
    "read-only checkout": Fault(title="read-only checkout", inject=surroundings.read_only_checkout, trials=1),
    "no locks": Fault(title="file system without locks", inject=surroundings.no_locks, trials=3),
    "at once": Fault(title="ten commands at once on one results folder", inject=users.at_once, trials=2),
    "photos in a run": Fault(title="a photo replaced, removed or cut short, or a class renamed, in `run-all`", inject=users.photos_changed_in_a_run, trials=2, injections=4),
    "photos after a run": Fault(title="the same between `run-all`, `report` and a repetition", inject=users.photos_changed_after_a_run, trials=1, injections=4),
}  # fmt: skip
"""Faults by name."""

START: Final = "<!-- faults: start -->\n"
END: Final = "<!-- faults: end -->\n"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came out of one trial: ``problems`` is empty if nothing was lost, ``skipped`` the reason if none was made."""

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
    done = subprocess.run(
        ["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


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


def main() -> None:
    """Carry out the trials that are not done, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--again", action="store_true", help="repeat the trials that had lost something")
    parser.add_argument("--document", type=Path)
    flags = parser.parse_args()
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
            print(
                f"{name} {number}: {trial.skipped or '; '.join(trial.problems) or 'nothing lost'} ({trial.took_s:.0f} s)",
                flush=True,
            )  # noqa: T201
    if flags.document is not None:
        write_table(flags.document, table(read_trials(file)))


if __name__ == "__main__":
    main()
