"""Disks that are full, become read-only or lose the results, and too little memory: a failed row, or one line."""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from tests.faults.subjects import Home, new_home, orphans, records, traceback_in, undisturbed, whole

LARGEST_BYTES: Final = {"results": 12_000_000, "cache": 600_000}
"""More than ``run_all`` writes there, so that some disks of a random size are full and some are not."""

GROUPS: Final = Path("/sys/fs/cgroup/memory")

FAILED: Final = {0, 1, 2}
"""Exit statuses of a command that has met a fault: it did not notice, a run failed, or it could not go on."""


class NotPossibleError(Exception):
    """The fault cannot be injected on this machine."""


def mount(*arguments: str | Path) -> None:
    """Mount something; raises NotPossibleError if that is not allowed."""
    done = subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotPossibleError(done.stderr.strip() or "mount failed")


@contextmanager
def _disk(folder: Path, size: int) -> Iterator[None]:
    """Make ``folder`` a file system of its own with a limited size."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "none", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _full(folder: Path, rng: random.Random, part: str) -> Iterator[str]:
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    # On a logarithmic scale: most files are small, and the first ones written.
    size = int(4096 * (LARGEST_BYTES[part] / 4096) ** rng.random())
    disk = home.results if part == "results" else home.cache
    with _disk(disk, size):
        status, output = home.run(*home.run_all)
        yield from _judged(home, status, output)
        mount("-o", "remount,size=200m", disk)
        yield from whole(home, expected)


def full_results(folder: Path, rng: random.Random) -> Iterator[str]:
    """Results on a disk of a random size, 4 KB to 12 MB; then on a larger one."""
    yield from _full(folder, rng, "results")


def full_cache(folder: Path, rng: random.Random) -> Iterator[str]:
    """The cache on a disk of a random size, 4 KB to 600 KB; then on a larger one."""
    yield from _full(folder, rng, "cache")


def read_only(folder: Path, rng: random.Random) -> Iterator[str]:
    """Results that become read-only at a random moment, and writable again."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    home.results.mkdir()
    process = home.start(*home.run_all)
    time.sleep(rng.uniform(2, 14))
    mount("--bind", home.results, home.results)
    try:
        # A second mount of the same files: the first one cannot become read-only while files are open.
        mount("-o", "remount,bind,ro", home.results)
        output, _ = process.communicate()
    finally:
        subprocess.run(["umount", "-l", str(home.results)], check=True)
    yield from _judged(home, process.returncode, output)
    yield from whole(home, expected)


def removed(folder: Path, rng: random.Random) -> Iterator[str]:
    """Results that are removed at a random moment."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    process = home.start(*home.run_all)
    time.sleep(rng.uniform(2, 14))
    shutil.rmtree(home.results, ignore_errors=True)
    output, _ = process.communicate()
    yield from _judged(home, process.returncode, output)
    yield from whole(home, expected)


def too_little_memory(folder: Path, rng: random.Random) -> Iterator[str]:
    """A process of ``run-all`` that gets at most 30 MB of further memory from a random moment on."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    process = home.start(*home.run_all)
    time.sleep(rng.uniform(4, 14))
    # Workers only: the command itself neither trains nor measures, and what it lacks memory for ends it.
    workers = [worker for worker in home.processes() if worker.pid != process.pid]
    if workers:
        with contextlib.suppress(psutil.Error, OSError):
            worker = rng.choice(workers)
            limit = worker.memory_info().vms + rng.randrange(30_000_000)
            worker.rlimit(psutil.RLIMIT_AS, (limit, limit))
    output, _ = process.communicate()
    yield from _judged(home, process.returncode, output)
    for record in records(home):
        if record.status == "failed" and not record.error:
            yield "a failed record without its error"
    yield from whole(home, expected)


def little_address_space(folder: Path, rng: random.Random) -> Iterator[str]:
    """``run-all`` in an address space of 1 to 6 GB (``ulimit -v``)."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    limit = int(rng.uniform(1e9, 6e9))
    process = home.start(*home.run_all, limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    process.communicate()
    if process.returncode == 0 and len(records(home)) < len(expected):
        yield "status 0 without all records"
    if alive := orphans(home):
        yield f"still running: {'; '.join(alive)}"
    yield from whole(home, expected)


def memory_group(folder: Path, rng: random.Random) -> Iterator[str]:
    """``run-all`` in a group of processes with 0.6 to 1.5 GB in all (cgroup): the kernel kills what exceeds it."""
    home, expected = new_home(folder / "home"), undisturbed(folder.parent / "undisturbed")
    group = GROUPS / f"imgcls-faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(int(rng.uniform(600e6, 1500e6))))
    except OSError as error:
        message = f"no memory group can be made ({error.strerror})"
        raise NotPossibleError(message) from error
    members = group / "cgroup.procs"
    try:
        process = home.start(*home.run_all, limit=lambda: members.write_text(str(os.getpid())) and None)
        output, _ = process.communicate()
        # The kernel may choose the command itself.
        yield from _judged(home, 1 if process.returncode == -signal.SIGKILL else process.returncode, output)
        for record in records(home):
            if record.status == "failed" and "memory" not in (record.error or ""):
                yield f"a failed record that names no lack of memory: {(record.error or '')[-200:]}"
    finally:
        _remove(group)
    yield from whole(home, expected)


def _remove(group: Path) -> None:
    """Remove a group, which is possible once the kernel has ended its processes."""
    for _ in range(50):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def _judged(home: Home, status: int, output: str) -> Iterator[str]:
    if status not in FAILED:
        yield f"status {status}: {output.strip()[-300:]}"
    yield from traceback_in(output)
    if alive := orphans(home):
        yield f"still running: {'; '.join(alive)}"
