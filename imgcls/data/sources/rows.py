"""Rows of CSV and TSV files as text, as spreadsheets and other programs write them."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgcls.data.sources.file_names import composed
from imgcls.errors import DataError

if TYPE_CHECKING:
    import _csv

SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
"""The separator of columns by the ending of the file's name; the first that is tried."""
OTHER_SEPARATORS: Final = (",", ";", "\t", "|")
QUOTES: Final = ('"', "'")
HINT: Final = "sep="
"""Start of a first line by which Excel is told the separator."""
ENCODINGS: Final = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
"""Encodings by the byte order mark at the start; without one it is UTF-8."""

Row = dict[str, str]
"""The cells of a row by column, without spaces at their ends."""


def is_table(path: Path) -> bool:
    """Return whether a name ends like that of a table."""
    return path.suffix.lower() in SEPARATORS


def read_rows(path: Path, *, required: Sequence[str]) -> tuple[list[str], list[tuple[int, Row]]]:
    """Return the names of a table's columns in lower case, and its rows that are not blank, each with its last line.

    The encoding is UTF-8, or UTF-16 with a byte order mark. The separator and the quotes are those with which the
    header has the columns ``required``; the separator of the file's ending is tried first. Lines before the header that
    are blank, start with ``#`` or tell the separator (``sep=;``) are skipped, and so are columns without a name.

    Raises DataError if it cannot be read, does not have each column of ``required`` once, or if a row has more cells
    than the header.
    """
    text, skipped = _without_preamble(path, _decoded(path), required)
    lines = _cells(path, text, required)
    header = [composed(cell.strip().lower()) for cell in next(lines, (0, []))[1]]
    columns = [column for column in header if column]
    if not columns:
        message = f"{path.name}: not a table that can be read (it has no header)"
        raise DataError(message)
    _require_columns(path, columns, required)
    rows = []
    for line, cells in lines:
        row = [cell.strip() for cell in cells]
        if any(row[len(header) :]):
            shape = f"line {line + skipped} has {len(row)} cells, the header has {len(header)}"
            message = f"{path.name}: not a table that can be read ({shape})"
            raise DataError(message)
        if any(row):
            row += [""] * (len(header) - len(row))
            rows.append((line + skipped, {name: cell for name, cell in zip(header, row, strict=False) if name}))
    return columns, rows


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode(ENCODINGS.get(data[:2], "utf-8-sig"))
    except OSError as error:
        message = f"{path.name}: not a table that can be read ({error.strerror})"
        raise DataError(message) from error
    except UnicodeDecodeError as error:
        message = f"{path.name}: not a table that can be read (neither UTF-8 nor UTF-16); save it as UTF-8"
        raise DataError(message) from error


def _without_preamble(path: Path, text: str, required: Sequence[str]) -> tuple[str, int]:
    """Return a text from its header on, and the number of lines before it."""

    def is_before(line: str) -> bool:
        # The first column of a header may be called "#".
        comment = line.startswith("#") and not any(_has(line, *form, required) for form in _formats(path))
        return not line.strip() or comment or line.lower().startswith(HINT)

    lines = io.StringIO(text, newline="").readlines()
    kept = list(dropwhile(is_before, lines))
    return "".join(kept), len(lines) - len(kept)


def _formats(path: Path) -> list[tuple[str, str]]:
    """Return separators and quotes in the order in which they are tried."""
    separators = dict.fromkeys((SEPARATORS.get(path.suffix.lower(), ","), *OTHER_SEPARATORS))
    return [(separator, quote) for quote in QUOTES for separator in separators]


def _cells(path: Path, text: str, required: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line of each row, and its cells."""
    formats = _formats(path)
    separator, quote = next((form for form in formats if _has(text, *form, required)), formats[0])
    reader = _reader(text, separator, quote)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        message = f"{path.name}: not a table that can be read (line {reader.line_num}: {error})"
        raise DataError(message) from error


def _has(text: str, separator: str, quote: str, required: Sequence[str]) -> bool:
    try:
        header: list[str] = next(_reader(text, separator, quote), [])
    except csv.Error:
        return False
    return {*required} <= {cell.strip().lower() for cell in header}


def _reader(text: str, separator: str, quote: str) -> "_csv.Reader":
    # Strict: of a quote that is never closed, all following lines would silently be one cell.
    file = io.StringIO(text, newline="")
    # Of the whole process; 131,072 characters by default. One cell that is too long is a fault of its row, not of the
    # table, and none is longer than the text.
    csv.field_size_limit(max(len(text), csv.field_size_limit()))
    return csv.reader(file, delimiter=separator, quotechar=quote, skipinitialspace=True, strict=True)


def _require_columns(path: Path, columns: Sequence[str], required: Sequence[str]) -> None:
    counts = Counter(columns)
    for column in (*required, *counts):
        if counts[column] != 1:
            has = f"has {counts[column]} columns" if counts[column] else "has no column"
            message = (
                f"{path.name} {has} {column!r}; columns there: {', '.join(counts)}; needed: {' and '.join(required)}"
            )
            raise DataError(message)
