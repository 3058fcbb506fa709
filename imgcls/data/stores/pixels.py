"""Cache of decoded and resized images in one uint8 file, shared by models with equal size, interpolation and crop."""

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
from imgcls.data.decode import DECODE_VERSION, Resize, UndecodableError, load_square, quiet_libraries
from imgcls.data.sources.file_names import file_of
from imgcls.errors import DataError
from imgcls.files import remove_abandoned, write_aside
from imgcls.parallel import OnProgress, map_chunks, silent

CACHE_VERSION: Final = 1
BYTES_PER_FILE: Final = 30_000
"""Assumed size of one image file, for the decision of ``map_chunks`` whether to start processes."""


def cache_key(audit: Audit, resize: Resize) -> str:
    """Return a hash of everything that determines the content of the cache."""
    # The audit's digest is of content, so that a copied or moved data set finds its cache. Pillow's version is
    # included, because its decoders and resampling may yield different pixels.
    content = [CACHE_VERSION, DECODE_VERSION, PIL.__version__, audit.digest, astuple(resize)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def cache_path(audit: Audit, resize: Resize, *, cache: Path) -> Path:
    """Return the path of the cache file."""
    return cache / "pixels" / f"{cache_key(audit, resize)}.npy"


def build_cache(
    audit: Audit, resize: Resize, *, root: Path, cache: Path, progress: OnProgress = silent
) -> NDArray[np.uint8]:
    """Return a read-only memmap, uint8 ``[N, size, size, 3]``, in the order of ``audit.images``.

    If the file does not exist, it is built on all cores and written atomically; processes that need the same file
    build it once. Raises DataError if an image has changed since its audit, OSError if the disk is full.
    """
    path = cache_path(audit, resize, cache=cache)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            remove_abandoned(path.parent)  # as large as the cache itself
            _build(path, audit, resize, root=root, progress=progress)
    # A memmap, because processes share its pages, and the file may be larger than the memory.
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return pixels


def _build(path: Path, audit: Audit, resize: Resize, *, root: Path, progress: OnProgress) -> None:
    jobs = [(index, file_of(root, image)) for index, image in enumerate(audit.images)]

    def fill(aside: Path) -> None:
        _reserve(aside, shape=(len(jobs), resize.size, resize.size, 3))
        map_chunks(partial(_fill, aside, resize), jobs, cost_bytes=len(jobs) * BYTES_PER_FILE, progress=progress)

    write_aside(path, fill)


def _reserve(path: Path, *, shape: tuple[int, ...]) -> None:
    """Write the array's header and allocate its disk space, so that a full disk raises OSError instead of SIGBUS."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
    if hasattr(os, "posix_fallocate"):  # macOS and Windows do not have it
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _fill(aside: Path, resize: Resize, jobs: Sequence[tuple[int, Path]]) -> None:
    # Each process maps the file itself and writes its own rows, so that no pixels are passed between processes.
    pixels = np.lib.format.open_memmap(aside, mode="r+")
    for index, path in jobs:
        try:
            with quiet_libraries():
                pixels[index] = load_square(path, resize)
        except UndecodableError as error:
            message = f"{path.name} was decoded in the audit and is now {error}: audit again"
            raise DataError(message) from error
    pixels.flush()
