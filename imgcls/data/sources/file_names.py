"""Names of files as text that can be written anywhere and compared, and back."""

import errno
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Final, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

ESCAPED: Final = "%:"
"""Start of a name that is percent-encoded: one that is not UTF-8, or that starts like this itself."""

URL: Final = "file://"
ABSENT: Final = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class Named(Protocol):
    """An image with an id, and with its own path if that differs."""

    @property
    def image_id(self) -> str:
        """The path relative to the data set's root, escaped and composed."""

    @property
    def own_path(self) -> str | None:
        """The same path as the file system spells it, escaped; None: as the id."""


def composed(text: str) -> str:
    """Return text in Unicode's composed form (NFC), in which equal names are equal: macOS decomposes names of files."""
    return unicodedata.normalize("NFC", text)


def escape(name: str) -> str:
    """Return a file name as valid text: names that are not UTF-8 cannot be written to JSON, CSV or HTML otherwise."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return ESCAPED + quote_from_bytes(os.fsencode(name))
    return ESCAPED + quote_from_bytes(os.fsencode(name)) if name.startswith(ESCAPED) else name


def unescape(text: str) -> str:
    """Return the file name that ``escape`` was given."""
    return os.fsdecode(unquote_to_bytes(text.removeprefix(ESCAPED))) if text.startswith(ESCAPED) else text


def ids_of(relative: str) -> tuple[str, str | None]:
    """Return the image id of a relative path with forward slashes, and the path itself, escaped, if it differs."""
    own = escape(relative)
    image_id = composed(own)
    return image_id, None if own == image_id else own


def file_of(root: Path, image: Named) -> Path:
    """Return the file of an image."""
    return root / unescape(image.own_path or image.image_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """Where a path of a table leads: the absolute path of what is there, or the reason why it cannot be used."""

    path: Path
    reason: str | None = None
    absolute: bool = False
    """Whether the table has an absolute path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Locator:
    """Finds the files that the paths of a table mean, relative to ``folder``, as several programs write them."""

    folder: Path
    _listings: dict[Path, dict[str, str]] = field(default_factory=dict, init=False)
    """Names in folders by their composed form; a table has many paths of one folder."""

    def locate(self, text: str) -> Located:
        """Return the file of a path: as it is, with ``/`` for a backslash, or with its characters composed otherwise.

        A path may be escaped (``escape``), or a URL (``file:///...``).
        """
        if text.startswith(URL):
            text = os.fsdecode(unquote_to_bytes(urlsplit(text).path))
        text = unescape(text)
        paths = [self._path(text)] + ([self._path(text.replace("\\", "/"))] if "\\" in text else [])
        # A path of another system must not be stored either.
        absolute = Path(text).is_absolute() or PureWindowsPath(text).is_absolute()
        reasons = [_reason(path) for path in paths]
        for path, reason in zip(paths, reasons, strict=True):
            if reason is None:
                return Located(path=path, absolute=absolute)
        own = None if text.isascii() else self._own_spelling(paths[-1])
        if own is not None:
            return Located(path=own, absolute=absolute)
        return Located(path=paths[-1], reason=reasons[-1], absolute=absolute)

    def _path(self, text: str) -> Path:
        return Path(os.path.normpath(self.folder / text))

    def _own_spelling(self, path: Path) -> Path | None:
        """Return an existing path that differs in the composition of characters only, if there is one."""
        own_path = Path(path.anchor)
        for part in path.parts[1:] if path.anchor else path.parts:
            if _reason(own_path / part) is not None:
                own = self._names_in(own_path).get(composed(part))
                if own is None:
                    return None
                own_path /= own
            else:
                own_path /= part
        return own_path

    def _names_in(self, folder: Path) -> dict[str, str]:
        if folder not in self._listings:
            try:
                names = [path.name for path in folder.iterdir()]
            except OSError:  # no folder, or one that may not be read
                names = []
            self._listings[folder] = {composed(name): name for name in names}
        return self._listings[folder]


def _reason(path: Path) -> str | None:
    """Return why there is nothing that can be used at a path, or None."""
    try:
        path.stat()
    except ValueError:  # a null character
        return "no such file"
    except OSError as error:
        return "no such file" if error.errno in ABSENT else f"unreadable: {error.strerror}"
    return None
