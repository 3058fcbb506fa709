"""A folder that holds the objects of a prefix: what is missing or has another version is downloaded, in parallel."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePath
from typing import Final, NamedTuple

from filelock import FileLock

from imgcls.data.sources.file_names import escape
from imgcls.errors import DataError
from imgcls.files import write_aside, write_text

LOGGER = logging.getLogger(__name__)

DOWNLOADS: Final = 16
"""Objects that are downloaded at a time: most of a small one's time is waiting."""
TRIES: Final = 3
OBJECTS: Final = "objects.jsonl"
"""File beside a folder with a line for each object in it, the last of which counts: what a killed command has done."""


class Remote(NamedTuple):
    """An object: its name in the cloud, its path below the prefix, its size in bytes and its version."""

    name: str
    relative: str
    size: int
    version: str


class Stored(NamedTuple):
    """What is known of a downloaded file: size and version of the object, and the file's time of modification."""

    size: int
    version: str
    mtime_ns: int


Fetch = Callable[[str, str], object]
"""Copies an object by its name to a path."""
Ask = Callable[[str], Remote]
"""Returns what an object is now, by its name."""


class _IncompleteError(Exception):
    """An object was replaced while it was downloaded, or not all of it came."""


def mirror(objects: Sequence[Remote], root: Path, *, fetch: Fetch, ask: Ask, shown: str) -> None:
    """Make the files below ``root`` those of the objects; hidden ones are skipped.

    Objects that are there in their version are not downloaded again, also after a command that was killed. Processes
    that need the same folder do so one after the other. ``shown`` is what messages call the objects. Raises DataError
    if the name of an object cannot be one of a file here, or if it cannot be downloaded whole; OSError if the disk is
    too small.
    """
    visible = [remote for remote in objects if not any(part.startswith(".") for part in remote.relative.split("/"))]
    _require_names(visible)
    root.mkdir(parents=True, exist_ok=True)
    journal = root.parent / OBJECTS
    with FileLock(root.parent / "objects.lock"):
        stored = _stored(journal, root)
        _remove_others(root, {remote.relative for remote in visible})
        waiting = [remote for remote in visible if stored.get(remote.relative, ())[:2] != (remote.size, remote.version)]
        kept = {remote.relative for remote in visible} - {remote.relative for remote in waiting}
        lines = {relative: known for relative, known in stored.items() if relative in kept}
        # Without what is downloaded now: a file that a killed command has replaced must not have its former version.
        if waiting or len(lines) != len(stored):
            write_text("".join(_line(relative, known) for relative, known in lines.items()), journal)
        if waiting:
            _download(waiting, root, journal, fetch=fetch, ask=ask, shown=shown)


def _require_names(objects: Sequence[Remote]) -> None:
    """Raise DataError if a name leads out of the folder, or if one is that of a folder of others, too."""
    names = {remote.relative for remote in objects}
    for name in names:
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or PurePath(name).anchor or "\0" in name:
            message = f"the object {escape(name)!r} cannot be a file here; rename it"
            raise DataError(message)
        above = next((folder for end in range(1, len(parts)) if (folder := "/".join(parts[:end])) in names), None)
        if above is not None:
            message = f"the object {escape(above)!r} has the name of a folder of others; rename it"
            raise DataError(message)


def _stored(journal: Path, root: Path) -> dict[str, Stored]:
    """Return the files that are as they were downloaded, by their path below ``root``."""
    stored: dict[str, Stored] = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
        try:
            relative, *known = json.loads(line)
            stored[relative] = Stored(*known)
        except (ValueError, TypeError):  # the line that a killed command was writing
            continue
    return {relative: known for relative, known in stored.items() if _is_unchanged(root / relative, known)}


def _is_unchanged(path: Path, known: Stored) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns)


def _remove_others(root: Path, names: set[str]) -> None:
    """Remove files of objects that are no longer there and of downloads that were killed, and empty folders."""
    for folder, _, files in os.walk(root, topdown=False):
        for path in (Path(folder) / file for file in files):
            if path.relative_to(root).as_posix() not in names:
                path.unlink()
        if Path(folder) != root:
            with contextlib.suppress(OSError):  # others are in it
                Path(folder).rmdir()


def _download(  # noqa: PLR0913 - two folders in addition to the objects
    objects: Sequence[Remote], root: Path, journal: Path, *, fetch: Fetch, ask: Ask, shown: str
) -> None:
    needed = sum(remote.size for remote in objects)
    if needed > (free := shutil.disk_usage(root).free):
        text = f"no space left for {needed / 1e9:.3g} GB of {shown} (free: {free / 1e9:.3g} GB)"
        raise OSError(errno.ENOSPC, text, str(root))
    LOGGER.info("downloading %s objects of %s (%.3g MB)", f"{len(objects):,}", shown, needed / 1e6)
    writing = threading.Lock()
    with journal.open("a", encoding="utf-8") as file, ThreadPoolExecutor(DOWNLOADS) as pool:

        def one(remote: Remote) -> None:
            path = root / remote.relative
            known = _fetched(remote, path, fetch=fetch, ask=ask)
            with writing:
                file.write(_line(remote.relative, known))
                file.flush()

        downloads = [pool.submit(one, remote) for remote in objects]
        try:
            for download in downloads:
                download.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetched(remote: Remote, path: Path, *, fetch: Fetch, ask: Ask) -> Stored:
    """Download an object, verified by its size and version; again if it is replaced meanwhile."""

    def write(aside: Path) -> None:
        fetch(current.name, str(aside))
        # The ETag of an object that was uploaded whole and is not encrypted is its MD5.
        if current.version != _md5(aside) and ask(current.name)[2:] != current[2:]:
            raise _IncompleteError
        if aside.stat().st_size != current.size:
            raise _IncompleteError

    current = remote
    for _ in range(TRIES):
        try:
            write_aside(path, write)
        except _IncompleteError:
            current = ask(remote.name)
        else:
            return Stored(current.size, current.version, path.stat().st_mtime_ns)
    message = f"{escape(remote.relative)!r} could not be downloaded whole in {TRIES} tries, or changes all the time"
    raise DataError(message)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def _line(relative: str, known: Stored) -> str:
    return json.dumps([relative, *known]) + "\n"
