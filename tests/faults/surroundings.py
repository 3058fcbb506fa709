"""Clocks, variables, names and file systems that are unusual: the same results, or a refusal with the reason."""

import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.faults.disks import NotPossibleError, mount
from tests.faults.subjects import ROOT, Home, new_home, records, traceback_in, undisturbed, whole

FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"

NAMES: Final = ("a folder", "Fotos für später", "two\nlines", "x" * 200, "\x1b[2J\x1b[31mred", "=1+2")

VARIABLES: Final[dict[str, dict[str, str]]] = {
    "C locale": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "no TERM": {"TERM": ""},
    "a terminal of 20 columns": {"COLUMNS": "20"},
}


def clock_set_back(folder: Path, rng: random.Random) -> Iterator[str]:
    """Set the clock back by an hour at a random moment of ``run-all`` (faketime)."""
    if not Path(FAKETIME).exists():
        message = "faketime is not installed"
        raise NotPossibleError(message)
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    clock = folder / "clock"
    clock.write_text("+0\n")
    variables = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    process = home.but(variables=variables).start(*home.run_all)
    time.sleep(rng.uniform(3, 14))
    clock.write_text("-3600\n")
    output, _ = process.communicate()
    yield from traceback_in(output)
    for record in records(home):
        training = record.outcome.training if record.outcome else None
        if record.duration_s < 0 or (training and min(training.train_time_s, training.eval_time_s) < 0):
            yield "a negative duration"
    yield from whole(home, expected)


def variables(folder: Path, rng: random.Random) -> Iterator[str]:
    """A C locale, no TERM, a narrow terminal, no HOME."""
    del rng
    expected = undisturbed(folder.parent / "undisturbed")
    for number, (title, changed) in enumerate(VARIABLES.items()):
        home = new_home(folder / f"über-{number}").but(variables=changed)
        yield from (f"{title}: {fault}" for fault in _same(home, expected))
    home = new_home(folder / "homeless")
    yield from (f"no HOME: {fault}" for fault in _same(home, expected, before=("env", "-u", "HOME", "-u", "USER")))


def names(folder: Path, rng: random.Random) -> Iterator[str]:
    """Paths with a space, other letters, a line break, 200 characters, an escape sequence and a formula."""
    del rng
    expected = undisturbed(folder.parent / "undisturbed")
    for name in NAMES:
        yield from (f"{name!r}: {fault}" for fault in _same(new_home(folder / name), expected))


def umask(folder: Path, rng: random.Random) -> Iterator[str]:
    """Files that only their user may read (umask 077)."""
    del rng
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    yield from _same(home, expected, before=("sh", "-c", 'umask 077; exec "$@"', "sh"))


def read_only_checkout(folder: Path, rng: random.Random) -> Iterator[str]:
    """The program itself on a read-only file system."""
    del rng
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    checkout = folder / "checkout"
    for package in ("bench", "imgcls"):
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    mount("--bind", checkout, checkout)
    try:
        mount("-o", "remount,bind,ro", checkout)
        yield from _same(home.but(root=checkout), expected)
    finally:
        subprocess.run(["umount", "-l", str(checkout)], check=True)


def no_locks(folder: Path, rng: random.Random) -> Iterator[str]:
    """A file system without locks (strace lets each ``flock`` fail): refused in one line."""
    if shutil.which("strace") is None:
        message = "strace is not installed"
        raise NotPossibleError(message)
    home = new_home(folder / "home")
    error = rng.choice(("ENOLCK", "ENOSYS", "EOPNOTSUPP"))
    inject = ("strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e")
    status, output = home.run(*home.run_all, before=(*inject, f"inject=flock:error={error}"))
    if status != 2 or "locks" not in output:
        yield f"{error}: status {status}: {output.strip()[-200:]}"
    yield from traceback_in(output)


def _same(home: Home, expected: dict[str, str], **options: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with ``run_all`` and ``report`` there."""
    for command in (home.run_all, ("report", "--no-images")):
        status, output = home.run(*command, **options)
        if status != 0:
            yield f"{command[0]} ended with {status}: {output.strip()[-300:]}"
        if "\x1b[2J" in output:
            yield f"{command[0]} wrote an escape sequence of a name to the terminal"
        yield from traceback_in(output)
    yield from whole(home, expected)
