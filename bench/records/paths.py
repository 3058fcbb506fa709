"""Paths on this machine, in a results folder and in the cache. Configs and records contain no paths."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imgcls.data.decode import Resize
from imgcls.data.sources.walking import IGNORED
from imgcls.errors import ConfigError
from imgcls.files import default_cache, owner, remove_abandoned
from imgcls.messages import Setting

if sys.platform != "win32":
    import fcntl

OUTCOME: Final = "outcome.json"
"""Written last among a training's artifacts: if it exists, training, evaluation and export are complete."""


PLACE: Final = "place.json"
"""File beside the artifacts with the path or name of a training's data set, which is not in the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """The paths of all files and folders in a results folder, and the folder of caches."""

    results: Path
    cache: Path = field(default_factory=default_cache)

    @property
    def leaderboard(self) -> Path:
        """The leaderboard as Markdown."""
        return self.results / "leaderboard.md"

    @property
    def spreadsheet(self) -> Path:
        """The leaderboard as CSV, one line per run."""
        return self.results / "leaderboard.csv"

    @property
    def index(self) -> Path:
        """The index file: what was made of each table, for as long as its files do not change."""
        return self.results / ".index"

    @property
    def report(self) -> Path:
        """The folder of the HTML report."""
        return self.results / "report"

    @property
    def locks(self) -> Path:
        """The folder of lock files, and of task files for other processes."""
        return self.results / ".locks"

    @property
    def sweeps(self) -> Path:
        """The folder of studies, their pages and their database."""
        return self.results / "sweeps"

    @property
    def selections(self) -> Path:
        """The folder of races and their pages."""
        return self.results / "selections"

    def screened(self, machine: str, name: str) -> Path:
        """Return the file with the short measurement of an untrained network on a machine."""
        return self.results / "screening" / machine / f"{name}.json"

    @property
    def trials(self) -> "Paths":
        """The results folder of running trials, separate because their artifacts are not those of runs."""
        return Paths(results=self.sweeps / ".work", cache=self.cache)

    @property
    def measuring(self) -> Path:
        """The folder of the finished rounds of a measurement that is not complete."""
        return self.results / "artifacts" / ".measure"

    @property
    def states(self) -> Path:
        """The folder of the states of trainings on a cluster that are not complete."""
        return self.results / "artifacts" / ".states"

    def state(self, run_id: str) -> Path:
        """Return the file with the state of a training on a cluster after its last epoch."""
        return self.states / f"{run_id}.zip"

    def artifacts(self, train_id: str) -> Path:
        """Return the folder of a training's artifacts: checkpoints, ONNX files and predictions."""
        return self.results / "artifacts" / train_id

    def carried_record(self, train_id: str, run_id: str) -> Path:
        """Return the copy of a run's record among its artifacts, which travels with them."""
        return self.artifacts(train_id) / f"{run_id}.json"

    def outcome(self, train_id: str) -> Path:
        """Return the outcome file of a training, which exists if the training is complete."""
        return self.artifacts(train_id) / OUTCOME

    def record(self, machine: str, run_id: str) -> Path:
        """Return the file of a run's record."""
        return self.results / "records" / machine / f"{run_id}.json"

    def all_records(self) -> Iterator[Path]:
        """Return the files of all records, sorted by path."""
        # ``glob`` returns files in the order of the file system, on which tables must not depend.
        return iter(sorted((self.results / "records").glob("*/*.json")))

    def measured_by(self, machine: str) -> Path:
        """Return the folder of the latency files of a machine, which is copied back to the training machine."""
        return self.results / "measurements" / machine

    def latency_file(self, machine: str, run_id: str) -> Path:
        """Return the file with the latency of a run's copied artifacts on a machine."""
        return self.measured_by(machine) / f"{run_id}.json"

    def all_latency_files(self) -> Iterator[Path]:
        """Return the latency files of all machines, sorted by path."""
        return iter(sorted((self.results / "measurements").glob("*/*.json")))

    def study(self, name: str) -> Path:
        """Return the file of a study's record."""
        return self.sweeps / f"{name}.json"

    def audit(self, name: str, digest: str) -> Path:
        """Return the file of a data set's audit."""
        return self.results / "audits" / f"{name}-{digest}.json"

    def task(self, name: str) -> Path:
        """Return the file of a task for another process, with its owner to keep commands apart."""
        return self.locks / f"{name}.{owner()}.task.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The pixels of a run's images, and the rows of two splits.

    They are in a ``.npy`` file of uint8 ``[N, S, S, 3]`` or, without one, decoded from the files ``names`` in ``root``.
    """

    pixels: str | None
    resize: Resize
    root: str = ""
    names: tuple[str, ...] = ()
    train_rows: tuple[int, ...]
    test_rows: tuple[int, ...]
    split_digest: str


def keep_from_data(results: Path, data: str) -> None:
    """Mark a results folder, which may lie among the photos, as one that is not read as data.

    Raises ConfigError if it is the folder of the photos itself.
    """
    if results.is_dir() and results.resolve() == Path(data).expanduser().resolve():
        reason = f": the folder of the photos; use another one, such as {results / 'results'}"
        raise ConfigError(Setting("results", str(results)), reason)
    mark(results)


def mark(results: Path) -> None:
    """Mark a results folder, if it exists, as one that is not read as data."""
    marker = results / IGNORED
    if results.is_dir() and not marker.exists():
        with contextlib.suppress(OSError):  # a folder that cannot be written is reported by ``check_writable``
            marker.touch()


def check_writable(results: Path) -> None:
    """Raise ConfigError if the results folder cannot be written or locked; create and mark it otherwise.

    Temporary files of commands that were killed are removed.
    """
    if any("\udc80" <= character <= "\udcff" for character in str(results.absolute())):  # undecodable bytes
        reason = ": its path is not UTF-8, which is needed to write weights; use another folder"
        raise ConfigError(Setting("results", str(results)), reason)
    # By writing: permission bits do not show a full or read-only file system. In the folder of locks, because every
    # command that trains or measures creates it anyway.
    probe = Paths(results=results).locks / f"writable.{owner()}.partial"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        reason = f": cannot be written ({error.strerror}); use a writable folder"
        raise ConfigError(Setting("results", str(results)), reason) from error
    try:
        _require_locks(probe, results)
    finally:
        probe.unlink(missing_ok=True)
    for folder in _folders(results):
        # Of another user: refused now, and not after a training.
        if folder.exists() and not os.access(folder, os.W_OK):
            reason = (
                f": its folder {folder.name} cannot be written ({os.strerror(errno.EACCES)}); use a writable folder"
            )
            raise ConfigError(Setting("results", str(results)), reason)
        remove_abandoned(folder)
    mark(results)


def _require_locks(probe: Path, results: Path) -> None:
    """Raise ConfigError if the file system has no locks, without which two commands would train one run at once."""
    if sys.platform == "win32":  # where every file system has them
        return
    try:
        with probe.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reason = f": its file system has no locks ({error.strerror}); use a folder on another one"
        raise ConfigError(Setting("results", str(results)), reason) from error


def _folders(results: Path) -> list[Path]:
    """Return the folders of the files of all commands; those of a training are its own, under its lock."""
    paths = Paths(results=results)
    machines = [*(results / "records").glob("*"), *(results / "measurements").glob("*")]
    files = [results, results / "records", results / "artifacts", results / "audits"]
    return [*files, *machines, paths.states, paths.locks, paths.sweeps, paths.selections, paths.report]
