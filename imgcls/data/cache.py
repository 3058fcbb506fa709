"""Decoded and resized pictures in one uint8 file, shared by all models of equal size, interpolation and crop."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray

from imgcls.data.audit import Audit
from imgcls.data.decode import DECODE_VERSION, Resize, UndecodableError, load_square
from imgcls.data.parallel import OnProgress, map_chunks, silent
from imgcls.errors import DataError
from imgcls.files import write_aside

CACHE_VERSION: Final = 1
BYTES_PER_FILE: Final = 30_000
"""What decoding one file is taken to cost, when deciding whether to start processes."""


def cache_key(audit: Audit, resize: Resize) -> str:
    """Hash everything that changes the content of the cache."""
    content = [CACHE_VERSION, DECODE_VERSION, PIL.__version__, audit.digest, astuple(resize)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def cache_path(audit: Audit, resize: Resize, *, cache: Path) -> Path:
    """Return the place of a cache's file."""
    return cache / "pixels" / f"{cache_key(audit, resize)}.npy"


def build_cache(
    audit: Audit, resize: Resize, *, root: Path, cache: Path, progress: OnProgress = silent
) -> NDArray[np.uint8]:
    """Open the read-only memmap uint8 ``[N, size, size, 3]`` in the order of ``audit.images``.

    Built over all cores when it is not there, written aside and renamed; two commands that want the same one
    build it once. Raises DataError where an image changed since its audit, OSError on a full disk.
    """
    path = cache_path(audit, resize, cache=cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _build(path, audit, resize, root=root, progress=progress)
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return pixels


def _build(path: Path, audit: Audit, resize: Resize, *, root: Path, progress: OnProgress) -> None:
    jobs = [(index, root / image.image_id) for index, image in enumerate(audit.images)]

    def fill(aside: Path) -> None:
        _reserve(aside, shape=(len(jobs), resize.size, resize.size, 3))
        map_chunks(partial(_fill, aside, resize), jobs, cost_bytes=len(jobs) * BYTES_PER_FILE, progress=progress)

    write_aside(path, fill)


def _reserve(path: Path, *, shape: tuple[int, ...]) -> None:
    """Write the array's header and claim its disk space, so that a full disk is an OSError and no SIGBUS."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _fill(aside: Path, resize: Resize, jobs: Sequence[tuple[int, Path]]) -> None:
    pixels = np.lib.format.open_memmap(aside, mode="r+")
    for index, path in jobs:
        try:
            pixels[index] = load_square(path, resize)
        except UndecodableError as error:
            message = f"{path.name} could be decoded in the audit and now is {error}: audit again"
            raise DataError(message) from error
    pixels.flush()
