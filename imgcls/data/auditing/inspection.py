"""What an audit sees in each file: pixels' digest, perceptual hash, thumbnail, notes, or why it is unusable."""

import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.auditing.duplicates import HASHED_PX, perceptual_hashes, pixel_digest
from imgcls.data.auditing.images import DIGEST
from imgcls.data.decode import LOW_RESOLUTION_PX, UndecodableError, decode, quiet_libraries
from imgcls.data.sources.file_names import Named, file_of
from imgcls.files import write_aside
from imgcls.parallel import OnProgress, map_chunks, usable_cores

THUMBNAIL_PX: Final = 16
CRASHED: Final = "unreadable: the decoder killed its process"
PART_S: Final = 20
"""Seconds of work after which what was seen is stored: an audit that is killed then loses no more than that."""
FIRST_PART: Final = 256
"""Files a core of the first part, from whose time the size of the next ones is derived."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inspected:
    """What was seen in ``N`` files."""

    pixel_digests: NDArray[np.bytes_]
    """``[N]``, empty where a file is unusable."""
    hashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    """``[N, 16, 16, 3]``."""
    searched: NDArray[np.bool_]
    """``[N]``: whether an image is large enough for a perceptual hash; the others have no hash and no thumbnail."""
    notes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Of the files that have any."""
    errors: dict[int, str] = field(default_factory=dict)
    """Reasons why files are unusable."""

    @classmethod
    def of_unknown(cls, count: int) -> "Inspected":
        """Return arrays to be filled."""
        return cls(
            pixel_digests=np.zeros(count, dtype=DIGEST),
            hashes=np.zeros(count, dtype=np.uint64),
            thumbnails=np.zeros((count, THUMBNAIL_PX, THUMBNAIL_PX, 3), dtype=np.uint8),
            searched=np.zeros(count, dtype=bool),
        )

    def fill(self, start: int, part: "Inspected") -> int:
        """Take over what was seen in the files from ``start`` on, and return the position after them."""
        stop = start + len(part.hashes)
        for name in ARRAYS:
            getattr(self, name)[start:stop] = getattr(part, name)
        self.notes.update({start + row: notes for row, notes in part.notes.items()})
        self.errors.update({start + row: reason for row, reason in part.errors.items()})
        return stop


ARRAYS: Final = ("pixel_digests", "hashes", "thumbnails", "searched")


def inspect(root: Path, files: Sequence[Named], *, folder: Path, progress: OnProgress) -> Inspected:
    """Look at every file, on all cores.

    What was seen is stored in ``folder`` every 20 seconds, and read from there if the process was killed: the caller
    removes the folder when it has stored the result.
    """
    seen, start, size = Inspected.of_unknown(len(files)), 0, FIRST_PART * usable_cores()
    while start < len(files):
        stored = folder / f"{start}.npz"
        part = _read_part(stored)
        if part is None:
            began = time.monotonic()
            paths = [file_of(root, file) for file in files[start : start + size]]
            part = _inspect_part(paths, partial(_report, progress, start, len(files)))
            if len(paths) < len(files):
                write_aside(stored, partial(_write_part, part))
            # Not more than twice as many at once: the next photos may be larger.
            size = max(1, min(2 * size, int(len(paths) * PART_S / max(time.monotonic() - began, 0.1))))
        start = seen.fill(start, part)
    progress(start, len(files))
    return seen


def _report(progress: OnProgress, before: int, total: int, done: int, _: int) -> None:
    progress(before + done, total)


def _inspect_part(paths: Sequence[Path], progress: OnProgress) -> Inspected:
    size = sum(path.stat().st_size for path in paths if path.exists())
    part, start = Inspected.of_unknown(len(paths)), 0
    for chunk in map_chunks(_inspect_chunk, paths, cost_bytes=size, progress=progress, crashed=_crashed):
        start = part.fill(start, chunk)
    return part


def _inspect_chunk(paths: Sequence[Path]) -> Inspected:
    seen = Inspected.of_unknown(len(paths))
    grey = np.zeros((len(paths), HASHED_PX, HASHED_PX), dtype=np.uint8)
    with quiet_libraries():
        for row, path in enumerate(paths):
            try:
                decoded = decode(path)
            except UndecodableError as error:
                seen.errors[row] = str(error)
                continue
            image = decoded.image
            seen.pixel_digests[row] = pixel_digest(image)
            if decoded.notes:
                seen.notes[row] = decoded.notes
            seen.searched[row] = min(image.size) >= LOW_RESOLUTION_PX
            if seen.searched[row]:
                grey[row] = np.asarray(image.convert("L").resize((HASHED_PX, HASHED_PX), Image.Resampling.LANCZOS))
                seen.thumbnails[row] = np.asarray(image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))
    seen.hashes[:] = np.where(seen.searched, perceptual_hashes(grey), 0)
    return seen


def _crashed(_path: Path) -> Inspected:
    seen = Inspected.of_unknown(1)
    seen.errors[0] = CRASHED
    return seen


def _write_part(part: Inspected, aside: Path) -> None:
    texts = json.dumps([[*part.notes.items()], [*part.errors.items()]])
    with aside.open("wb") as file:
        np.savez(file, texts=np.array(texts), **{name: getattr(part, name) for name in ARRAYS})


def _read_part(path: Path) -> Inspected | None:
    """Return what was seen before the process was killed, or None if nothing was stored, or nothing that is whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
            notes, errors = json.loads(str(stored["texts"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Inspected(**arrays, notes={row: tuple(texts) for row, texts in notes}, errors=dict(errors))
