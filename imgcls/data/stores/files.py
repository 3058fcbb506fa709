"""Pixels decoded from the user's own files whenever they are needed; nothing is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imgcls.data.decode import Resize, UndecodableError, load_square, quiet_libraries
from imgcls.data.sources.file_names import unescape
from imgcls.errors import DataError
from imgcls.parallel import stream_chunks

CHUNK: Final = 16
"""Images that a thread decodes before it takes others."""


class Pixels(Protocol):
    """The pixels of a data set: by rows, int64 ``[B]``, uint8 ``[B, S, S, 3]``."""

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Return the pixels of images."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FileStore:
    """Images of one size below ``root``; ``names``, ``[N]``, are their escaped paths there."""

    root: Path
    names: Sequence[str] | NDArray[Any]
    resize: Resize

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images in threads, on all cores: uint8 ``[B, S, S, 3]``.

        Raises DataError if one has changed since its audit.
        """
        with quiet_libraries():
            return self._stacked(list(stream_chunks(self._squares, rows.tolist(), size=CHUNK)))

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode images one after the other, for worker processes of which there is one for each core."""
        with quiet_libraries():
            return self._stacked(self._squares(rows.tolist()))

    def _squares(self, rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        return [self._square(self.root / unescape(self.names[row])) for row in rows]

    def _square(self, path: Path) -> NDArray[np.uint8]:
        try:
            return load_square(path, self.resize)
        except UndecodableError as error:
            message = f"{path.name} was decoded in the audit and is now {error}: audit again"
            raise DataError(message) from error

    def _stacked(self, squares: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        size = self.resize.size
        return np.array(squares, dtype=np.uint8).reshape(-1, size, size, 3)
