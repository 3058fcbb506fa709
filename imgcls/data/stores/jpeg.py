"""Resized images as JPEG in a few Arrow files, which lose a little: to train on, where the pixels fit no disk."""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, features

from imgcls.data.audit import Audit
from imgcls.data.decode import DECODE_VERSION
from imgcls.data.stores.files import CHUNK, FileStore
from imgcls.errors import DataError
from imgcls.files import remove_abandoned, write_aside
from imgcls.parallel import OnProgress, silent, stream_chunks

LOGGER = logging.getLogger(__name__)

QUALITY: Final = 95
SETTING: Final = f"jpeg q{QUALITY} 4:4:4"
"""What the pixels of this store are: part of the ids and of the setting of a run that trains on them."""
STORE_VERSION: Final = 1
SHARD: Final = 8192
"""Images in a file: 150 MB at 160 px, 300 MB at 224 px."""
BATCH: Final = 256
"""Images in a record batch, of which the file's footer has the places."""
COLUMN: Final = "jpeg"
MADE_BY: Final = b"imgcls"
"""Key of the file's metadata with the versions that made it."""


class JpegStore:
    """Images of one size in the files ``shards``, memory-mapped, so that processes share what they read."""

    def __init__(self, shards: Sequence[Path], size: int) -> None:
        """Open the files; ``size`` is the side of the images in pixels."""
        self.shards, self.size = tuple(shards), size
        self._batches = [_batches(path) for path in self.shards]

    def __reduce__(self) -> tuple[type["JpegStore"], tuple[tuple[Path, ...], int]]:
        """Return how another process opens the files."""
        return JpegStore, (self.shards, self.size)

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images in threads, on all cores: uint8 ``[B, S, S, 3]``; raises DataError if a file is damaged."""
        return self._stacked(list(stream_chunks(self._squares, rows.tolist(), size=CHUNK)))

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images one after the other, for worker processes of which there is one for each core."""
        return self._stacked(self._squares(rows.tolist()))

    def _squares(self, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [self._square(row) for row in rows]

    def _square(self, row: int) -> NDArray[np.uint8]:
        shard, place = divmod(row, SHARD)
        jpeg = self._batches[shard][place // BATCH][place % BATCH].as_buffer()
        try:
            with Image.open(io.BytesIO(jpeg)) as image:
                square = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise self._damaged(shard) from error
        if square.shape != (self.size, self.size, 3):
            raise self._damaged(shard)
        return square

    def _damaged(self, shard: int) -> DataError:
        path = self.shards[shard]
        message = f"{path.parent.name}/{path.name} in the cache is damaged: delete it, and it is made again"
        return DataError(message)

    def _stacked(self, squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        return np.array(squares, dtype=np.uint8).reshape(-1, self.size, self.size, 3)


def build_jpegs(audit: Audit, exact: FileStore, *, cache: Path, progress: OnProgress = silent) -> JpegStore:
    """Return the images of an audit at the size of ``exact``, in the order of ``audit.images``, as JPEG.

    Files that do not exist, were cut short or were made by other versions are made on all cores and written
    atomically; processes that need the same ones make them once. Raises DataError if an image has changed since its
    audit, OSError if the disk is full.
    """
    # Without versions, which the files hold: those of an earlier one are replaced.
    content = json.dumps([audit.digest, astuple(exact.resize), SETTING])
    folder = cache / "jpeg" / hashlib.sha256(content.encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    number = len(audit.images)
    starts = range(0, number, SHARD)
    shards = tuple(folder / f"{place:05d}.arrow" for place in range(len(starts)))
    with FileLock(folder / "shards.lock"):
        remove_abandoned(folder)
        for path, start in zip(shards, starts, strict=True):
            rows = np.arange(start, min(start + SHARD, number))
            if _is_whole(path, len(rows)):
                continue
            done = partial(_add, progress, start, number)
            write_aside(path, partial(_write, exact=exact, rows=rows, progress=done))
    return JpegStore(shards, exact.resize.size)


def _add(progress: OnProgress, start: int, number: int, done: int) -> None:
    progress(start + done, number)


def _made_by() -> bytes:
    return json.dumps([STORE_VERSION, DECODE_VERSION, PIL.__version__, features.version("jpg"), SETTING]).encode()


def _is_whole(path: Path, number: int) -> bool:
    """Return whether a file has a number of images and is of these versions; if one that is there has not, log it."""
    if not path.exists():
        return False
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        made_by = (reader.schema.metadata or {}).get(MADE_BY)
        images = sum(reader.get_batch(place).num_rows for place in range(reader.num_record_batches))
    except (pa.ArrowException, OSError):
        reason = "cut short or damaged"
    else:
        if made_by == _made_by() and images == number:
            return True
        reason = "of another version" if made_by != _made_by() else f"of {images} images, not {number}"
    LOGGER.warning("%s/%s in the cache is %s: it is made again", path.parent.name, path.name, reason)
    return False


def _batches(path: Path) -> list[Any]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return [reader.get_batch(place).column(0) for place in range(reader.num_record_batches)]


def _write(aside: Path, *, exact: FileStore, rows: NDArray[np.int64], progress: Callable[[int], None]) -> None:
    schema = pa.schema([(COLUMN, pa.binary())], metadata={MADE_BY: _made_by()})
    with pa.OSFile(str(aside), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for start in range(0, len(rows), BATCH):
            squares = exact[rows[start : start + BATCH]]
            jpegs = list(stream_chunks(_jpegs, list(squares), size=CHUNK))
            writer.write_batch(pa.record_batch([pa.array(jpegs, pa.binary())], schema=schema))
            progress(start + len(jpegs))


def _jpegs(squares: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    return [_jpeg(square) for square in squares]


def _jpeg(square: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    # 4:4:4: the colour of small objects at 160 px would suffer most.
    Image.fromarray(square).save(buffer, format="JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
