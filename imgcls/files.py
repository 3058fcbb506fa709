"""Atomic writing of files: write a temporary file, flush it to the disk, rename it. Without torch."""

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock

# Not 0: a write fails if the free space is smaller than its size, even if some is left.
FULL_BELOW_BYTES: Final = 2**20
DONE: Final = ".complete"
"""Empty file that is written last into a data set's folder; if it exists, the data set is complete."""


def write_aside(path: Path, write: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Call ``write`` on a temporary path beside ``path``, flush the file to the disk, and rename it.

    The file is created with ``mode``, less the process's umask. Raises OSError if the disk is full, whatever ``write``
    raised; the temporary file is removed after any error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within a file system; with its owner, because several
    # processes may write the same path.
    aside = path.with_name(f"{path.name}.{owner()}.partial")
    try:
        # Created before it is written: a chmod afterwards would leave private content readable for a moment.
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode))
        write(aside)
        # Without fsync, a crash may leave an empty file under the final name.
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:  # an interrupt must not leave the temporary file either
        full = shutil.disk_usage(path.parent).free < FULL_BELOW_BYTES
        aside.unlink(missing_ok=True)
        if full and isinstance(error, Exception):  # torch and safetensors raise errors of their own
            raise OSError(errno.ENOSPC, f"no space left on the disk for {path.name}") from error
        raise


def owner() -> str:
    """Return what the name of a temporary file says of its process: the machine's name and the process id."""
    return f"{platform.node()}-{os.getpid()}"


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files in ``folder`` whose process on this machine has ended without removing them."""
    import psutil  # noqa: PLC0415 - not needed by ``predict``, whose start it would delay

    # A process with the id of an ended one keeps its file until the next call. Other machines' processes are unknown.
    name = re.compile(rf".*\.{re.escape(platform.node())}-(\d+)\.(partial|task\.json)")
    for path in folder.iterdir() if folder.is_dir() else ():
        matched = name.fullmatch(path.name)
        if matched and not psutil.pid_exists(int(matched[1])):
            with contextlib.suppress(PermissionError):  # it is another user's
                path.unlink(missing_ok=True)


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file; raises OSError for others, such as a pipe, whose end may never come."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def write_text(text: str, path: Path, *, mode: int = 0o666) -> None:
    """Write UTF-8 text with ``write_aside``."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8", newline="\n"), mode=mode)


def write_bytes(content: bytes, path: Path) -> None:
    """Write bytes with ``write_aside``."""
    write_aside(path, lambda aside: aside.write_bytes(content))


def json_list(items: Iterable[object]) -> Iterator[bytes]:
    """Yield the JSON text of a list in pieces, so that of a million items no text of all is in memory."""
    yield b"["
    for number, item in enumerate(items):
        yield (", " if number else "").encode() + json.dumps(item).encode(errors="surrogateescape")
    yield b"]"


def default_cache() -> Path:
    """Return ``$IMGCLS_CACHE``, or this user's cache folder."""
    import platformdirs  # noqa: PLC0415 - not needed by callers that name a folder

    return Path(os.environ.get("IMGCLS_CACHE") or platformdirs.user_cache_dir("imgcls"))


def write_once(name: str, write: Callable[[Path], None], *, cache: Path) -> Path:
    """Return the folder of a downloaded or converted data set in ``cache``; ``write`` fills it if it does not exist.

    Safe if several processes need it at the same time. Nothing of it stays if ``write`` fails.
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
            try:
                write(partial_folder)
            except BaseException:  # on a full disk, a part of many gigabytes would keep others from writing
                shutil.rmtree(partial_folder, ignore_errors=True)
                raise
            # Renamed last, so that an interrupted download never leaves a folder under the final name.
            (partial_folder / DONE).touch()
            partial_folder.rename(folder)
    return folder
