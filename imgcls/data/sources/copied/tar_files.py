"""The files in a tar file, in order, or an error in one line: it may be damaged, or written to do harm."""

import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Final, NoReturn, cast

from imgcls.data.sources.file_names import escape
from imgcls.errors import DataError

MOST_BYTES: Final = 2**30
DAMAGE: Final = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def read_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the relative path, with forward slashes, and the content of each file; None if it is not ``wanted``.

    Files are skipped if their name or a folder above them begins with a dot. Raises DataError for what is no tar file
    or one that was cut short, for a link or device, for a path that leads out of its folder, and for a content above
    1 GiB.
    """
    try:
        archive = tarfile.open(path, "r:*")  # noqa: SIM115 - closed below
    except (*DAMAGE, OSError) as error:
        _refuse(path, f"not a tar file that can be read ({_line(error)})", error)
    with archive:
        try:
            for member in archive:
                name = _checked(path, member)
                if member.isfile() and not any(part.startswith(".") for part in PurePosixPath(name).parts):
                    yield name, _content(path, archive, member) if wanted(name) else None
            complete = _ends(archive)
        except DAMAGE as error:
            _refuse(path, f"cut short or damaged ({_line(error)})", error)
    if not complete:
        _refuse(path, "cut short or damaged (it has no end)")


def _content(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    # A sparse file of a few bytes may claim to have any size.
    if member.size > MOST_BYTES:
        _refuse(path, f"{escape(member.name)!r} is larger than 1 GiB")
    with cast("IO[bytes]", archive.extractfile(member)) as file:
        return file.read()


def _ends(archive: tarfile.TarFile) -> bool:
    """Return whether an archive ends with a block of zeros: the library stops silently at whatever is no header."""
    file = cast("IO[bytes]", archive.fileobj)
    file.seek(archive.offset)
    return file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE


def _checked(path: Path, member: tarfile.TarInfo) -> str:
    """Return the relative path of a member, without ``./``; raises DataError if it is unsafe."""
    shown = escape(member.name)
    if not (member.isfile() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
        _refuse(path, f"{shown!r} is {kind}; shards may hold files only")
    # ``PurePath`` knows the drives and backslashes of Windows where these mean something.
    if member.name.startswith("/") or PurePath(member.name).anchor or ".." in PurePath(member.name).parts:
        _refuse(path, f"{shown!r} leads out of the shard's folder")
    return PurePosixPath(member.name).as_posix()


def _refuse(path: Path, reason: str, cause: BaseException | None = None) -> NoReturn:
    message = f"{escape(path.name)}: {reason}"
    raise DataError(message) from cause


def _line(error: BaseException) -> str:
    text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return " ".join(text.split()) or type(error).__name__
