"""The state of a training on disk: whole after any kill, and enough to go on as if never stopped."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

FULL_BELOW_BYTES: Final = 2**20


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: aside, to the disk, then renamed; raises OSError on a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.partial")
    try:
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except Exception as error:
        full = shutil.disk_usage(path.parent).free < FULL_BELOW_BYTES
        aside.unlink(missing_ok=True)
        if full:  # torch and safetensors have words of their own for it
            raise OSError(errno.ENOSPC, f"no space left on the disk for {path.name}") from error
        raise
