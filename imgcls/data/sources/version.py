"""Versions of the files of a data set: what must be unchanged for a stored audit to be used again."""

import hashlib
import io
import json
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Final

import msgspec

from imgcls.data.sources.file_names import file_of
from imgcls.data.sources.folder import Dataset, ImageFile
from imgcls.files import json_list
from imgcls.parallel import stream_chunks

EDGE_BYTES: Final = 4096
"""Bytes that are read at the start and at the end of each file."""
CHUNK: Final = 256
"""Files that a thread reads before it takes others."""


def version_of(dataset: Dataset, *, verify: bool = False) -> str:
    """Return a hash of the files of a data set and of what is known of them: 32 hexadecimal digits.

    Names, sizes and modification times do not identify uncompressed images, which archives unpack with equal ones. The
    hash is also of the folder's resolved path, of each file's inode and time of the last change, where its file system
    has them, and of its first and last 4 KB. A copy in another folder is therefore another version.

    With ``verify`` it is of the names and of all bytes of the files, and of nothing else, so that a copy is the same
    version and no file system has to be trusted.
    """
    description = [
        dataset.class_names,
        dataset.given_splits,
        dataset.empty_folders,
        dataset.columns,
        dataset.rejected,
    ]
    # As one JSON list with the files as its last entry but one, in pieces.
    digest = hashlib.sha256(_json(description)[:-1] + b", ")
    for text in json_list(map(msgspec.to_builtins, dataset.files)):
        digest.update(text)
    digest.update(b", " + _json(None if verify else str(dataset.root.resolve())) + b"]")
    read = partial(_bytes_of if verify else _edges_of, dataset.root)
    for version in stream_chunks(read, dataset.files, size=CHUNK):
        digest.update(version)
    return digest.hexdigest()[:32]


def _json(content: object) -> bytes:
    return json.dumps(msgspec.to_builtins(content)).encode(errors="surrogateescape")


def _edges_of(root: Path, files: Sequence[ImageFile]) -> list[bytes]:
    return [hash_of_file(file_of(root, file), whole=False) for file in files]


def _bytes_of(root: Path, files: Sequence[ImageFile]) -> list[bytes]:
    return [hash_of_file(file_of(root, file), whole=True) for file in files]


def hash_of_file(path: Path, *, whole: bool) -> bytes:
    """Return the SHA-256 of a file: of all its bytes, or of its first and last ones and its properties.

    Of one that cannot be read it is that of the error.
    """
    digest = hashlib.sha256()
    try:
        status = path.stat()
        if not whole:
            # Each is 0 where the file system has none; on Windows st_ctime_ns is the time of creation.
            digest.update(repr((status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)).encode())
        # Reading a named pipe would wait for ever.
        if stat.S_ISREG(status.st_mode):
            with path.open("rb", buffering=0) as file:
                for part in (file_digest(file, "sha256").digest(),) if whole else _edges(file, status.st_size):
                    digest.update(part)
    except OSError as error:  # a dangling link, or a file that may not be read; decoding reports it
        digest.update(str(error.errno).encode())
    return digest.digest()


def _edges(file: io.FileIO, size: int) -> Iterator[bytes]:
    yield file.read(EDGE_BYTES)
    if size > EDGE_BYTES:
        file.seek(max(EDGE_BYTES, size - EDGE_BYTES))
        yield file.read(EDGE_BYTES)
