"""Files that are whole or not there: written aside, to the disk, then renamed. No torch."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

FULL_BELOW_BYTES: Final = 2**20


def write_aside(path: Path, write: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Have ``write`` make a file beside ``path``, bring it to the disk, and rename it.

    ``mode`` holds from the beginning, less what the process's umask takes away. Raises OSError if the disk is full,
    whatever ``write`` raised; after any error nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(aside, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode))
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException as error:
        full = shutil.disk_usage(path.parent).free < FULL_BELOW_BYTES
        aside.unlink(missing_ok=True)
        if full and isinstance(error, Exception):  # torch and safetensors have words of their own for it
            raise OSError(errno.ENOSPC, f"no space left on the disk for {path.name}") from error
        raise


def write_text(text: str, path: Path, *, mode: int = 0o666) -> None:
    """Write UTF-8 text by ``write_aside``."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"), mode=mode)


def write_bytes(content: bytes, path: Path) -> None:
    """Write bytes by ``write_aside``."""
    write_aside(path, lambda aside: aside.write_bytes(content))
