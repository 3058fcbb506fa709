"""Photos without labels: files, folders, patterns, and tables of paths."""

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

from imgcls.data.sources.file_names import Locator
from imgcls.data.sources.rows import is_table, read_rows
from imgcls.data.sources.walking import walk
from imgcls.errors import DataError

LOGGER = logging.getLogger(__name__)


def list_photos(inputs: Sequence[Path]) -> list[Path]:
    """Return the photos that ``inputs`` name, in their order; a photo that is named twice is returned twice.

    An input is a file, a folder (all visible files below it, sorted), a pattern (``*``, ``?``, ``[``, and ``**`` for
    folders of any depth; the matching files, sorted), or a CSV or TSV file with a column ``path``, relative to the
    file. A name of anything else is returned as it is, also if nothing has this name.

    Raises DataError if a folder, pattern or table names no file, or a table cannot be read.
    """
    return [photo for given in inputs for photo in _photos_of(given)]


def _photos_of(given: Path) -> list[Path]:
    if given.is_dir():
        contents = walk(given, root=given)
        for link, why in contents.not_followed:
            LOGGER.warning("%s: not followed (%s)", link, why)
        photos, reason = [*contents.files], "no files in this folder"
    elif not given.exists() and glob.has_magic(str(given)):
        matches = (Path(match) for match in glob.glob(str(given), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        photos, reason = sorted(match for match in matches if not match.is_dir()), "no file matches this pattern"
    elif is_table(given):
        _, rows = read_rows(given, required=("path",))
        locator = Locator(folder=given.parent)
        photos = [locator.locate(row["path"]).path for _, row in rows if row["path"]]
        reason = "no rows in this table"
    else:
        return [given]
    if not photos:
        message = f"{given}: {reason}; give photos, a folder, a pattern or a table (.csv, .tsv) with a column path"
        raise DataError(message)
    return photos
