"""Data sets that are downloaded or converted: written once into the cache, as a folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filelock import FileLock

DONE: Final = ".complete"
"""Empty file that is written last into a data set's folder; if it exists, the data set is complete."""


def write_once(name: str, write: Callable[[Path], None], *, cache: Path) -> Path:
    """Return the folder of a data set in ``cache``; ``write`` fills it if it does not exist.

    Safe if several processes need it at the same time.
    """
    folder = cache / "datasets" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not with_suffix(), because names may contain dots.
    with FileLock(folder.with_name(f"{name}.lock")):
        if not (folder / DONE).exists():
            partial_folder = folder.with_name(f"{name}.partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial_folder.mkdir()
            write(partial_folder)
            # Renamed last, so that an interrupted download never leaves a folder under the final name.
            (partial_folder / DONE).touch()
            partial_folder.rename(folder)
    return folder
