"""Where things are on this machine: in a results folder, and in the cache. No place stands in a config or a record."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import platformdirs

from imgcls.errors import ConfigError

OUTCOME: Final = "outcome.json"
"""Written last into a training's artifacts: its existence means that training, evaluation and export are done."""


def default_cache() -> Path:
    """Return ``$IMGCLS_CACHE``, or this user's cache folder."""
    return Path(os.environ.get("IMGCLS_CACHE") or platformdirs.user_cache_dir("imgcls"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """The places of everything in a results folder, each named once; and the folder of caches."""

    results: Path
    cache: Path = field(default_factory=default_cache)

    @property
    def leaderboard(self) -> Path:
        """The leaderboard as Markdown."""
        return self.results / "leaderboard.md"

    @property
    def spreadsheet(self) -> Path:
        """The leaderboard as CSV, a line a run."""
        return self.results / "leaderboard.csv"

    @property
    def report(self) -> Path:
        """The folder of the HTML report."""
        return self.results / "report"

    @property
    def locks(self) -> Path:
        """The folder of locks, and of tasks on their way to a process."""
        return self.results / ".locks"

    @property
    def sweeps(self) -> Path:
        """The folder of studies, their pages and their database."""
        return self.results / "sweeps"

    @property
    def trials(self) -> "Paths":
        """The results folder of trials while they run; what lies there is no run's."""
        return Paths(results=self.sweeps / ".work", cache=self.cache)

    @property
    def measuring(self) -> Path:
        """The folder of finished parts of a measurement that goes on."""
        return self.results / "artifacts" / ".measure"

    def artifacts(self, train_id: str) -> Path:
        """Return the folder of a training's heavy files."""
        return self.results / "artifacts" / train_id

    def outcome(self, train_id: str) -> Path:
        """Return the file that says that a training is done."""
        return self.artifacts(train_id) / OUTCOME

    def record(self, machine: str, run_id: str) -> Path:
        """Return the file of a run's record."""
        return self.results / "records" / machine / f"{run_id}.json"

    def all_records(self) -> Iterator[Path]:
        """Return the files of all records, in order of their names."""
        return iter(sorted((self.results / "records").glob("*/*.json")))

    def study(self, name: str) -> Path:
        """Return the file of a study's record."""
        return self.sweeps / f"{name}.json"

    def audit(self, name: str, digest: str) -> Path:
        """Return the file of a data set's audit."""
        return self.results / "audits" / f"{name}-{digest}.json"

    def task(self, name: str) -> Path:
        """Return the file of a task for another process; this one's number keeps it apart from others'."""
        return self.locks / f"{name}.{os.getpid()}.task.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The cached pixels of a run's data (a ``.npy`` file of uint8 ``[N, S, S, 3]``), and which rows are whose."""

    pixels: str
    train_rows: tuple[int, ...]
    test_rows: tuple[int, ...]
    split_digest: str


def check_writable(results: Path) -> None:
    """Raise ConfigError if the results folder cannot be written."""
    probe = Paths(results=results).locks / "writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        message = f"--results {results}: cannot be written ({error.strerror}); give a folder that can"
        raise ConfigError(message) from error
