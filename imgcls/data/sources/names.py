"""Names of files as text that can be written anywhere, and back."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

ESCAPED: Final = "%:"
"""Start of a name that is percent-encoded: one that is not UTF-8, or that starts like this itself."""


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


def file_of(root: Path, image_id: str) -> Path:
    """Return the file of an image id."""
    return root / unescape(image_id)
