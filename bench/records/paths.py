"""One run's settings, composed of the library's, and where things are on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from imgcls.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Paths:
    """Where things are on this machine; stays outside every config and record."""

    results: Path
    cache: Path

    def artifacts(self, train_id: str) -> Path:
        """Give the folder of a training's heavy files."""
        return self.results / "artifacts" / train_id

    def records(self, machine: str) -> Path:
        """Give the folder of a machine's records."""
        return self.results / "records" / machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """The cached pixels of a run's data (a ``.npy`` file of uint8 ``[N, S, S, 3]``), and which rows are whose."""

    pixels: str
    train_rows: tuple[int, ...]
    test_rows: tuple[int, ...]
    split_digest: str


def default_cache() -> Path:
    """Give ``$IMGCLS_CACHE``, or this user's cache folder."""
    return Path(os.environ.get("IMGCLS_CACHE") or platformdirs.user_cache_dir("imgcls"))


def check_writable(results: Path) -> None:
    """Raise ConfigError where the results folder cannot be written."""
    probe = results / ".locks" / "writable"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        message = f"--results {results}: cannot be written ({error.strerror}); give a folder that can"
        raise ConfigError(message) from error
