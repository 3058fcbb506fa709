"""The index file: entries of record files, and what was made of each table, for one version of the code."""

import hashlib
import importlib.metadata
import logging
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from bench.comparison.agreement import ExcludedRun
from bench.comparison.indexing.inputs import NOTHING_KNOWN, Inputs
from bench.comparison.tables import TableKey
from bench.config import REPOSITORY
from imgcls.files import read_regular, write_bytes

LOGGER = logging.getLogger(__name__)

PACKAGES: Final = ("bench", "imgcls")

LIBRARIES: Final = ("msgspec", "numpy", "scipy", "timm", "torch")
"""Distributions whose version may change a digit or a counted GMAC."""

DIGEST_BYTES: Final = hashlib.sha256().digest_size


@dataclass(frozen=True, kw_only=True, slots=True)
class TableEntry:
    """What was made of a table from files with the digest ``made_from``; ``value`` is empty if it was not shown.

    ``rows`` are the names and ids of its rows, and ``refused`` their number if they are too many; ``excluded`` are the
    runs of which the commands warn.
    """

    key: TableKey
    made_from: str
    value: bytes
    rows: tuple[tuple[str, str], ...]
    excluded: tuple[ExcludedRun, ...]
    refused: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """The content of an index file."""

    code: str
    inputs: Inputs
    tables: tuple[TableEntry, ...]


NO_INDEX: Final = Index(code="", inputs=NOTHING_KNOWN, tables=())


def read_index(path: Path) -> Index:
    """Read an index file; one that is missing, damaged or of other code counts as empty."""
    try:
        data = read_regular(path)
        digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return NO_INDEX
        index = msgspec.msgpack.decode(content, type=Index)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return NO_INDEX
    return index if index.code == code_version() else NO_INDEX


def write_index(index: Index, path: Path) -> None:
    """Write an index file, atomically; a failure is logged, since everything can be made without it."""
    content = msgspec.msgpack.encode(index)
    try:
        write_bytes(hashlib.sha256(content).digest() + content, path)
    except OSError as error:
        LOGGER.warning("the index %s cannot be written (%s): the next command makes all tables", path.name, error)


@cache
def code_version() -> str:
    """Return a digest of the source of both packages, and of the versions of Python and of libraries that compute."""
    # Once a process, whose code stays what it was when it was imported. Not the commit, which a changed working tree
    # shares, and an installed package lacks.
    files = sorted(path for name in PACKAGES for path in (REPOSITORY / name).rglob("*.py"))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(REPOSITORY).as_posix()}\0".encode() + path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    digest.update("\n".join([platform.python_version(), platform.machine(), *versions]).encode())
    return digest.hexdigest()
