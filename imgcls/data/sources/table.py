"""Data sets described by a table of labels: a CSV or TSV file with the path and the label of each image."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgcls.data.sources.folder import SPLIT_NAMES, SPLIT_OF, Dataset, ImageFile, Removal
from imgcls.data.sources.names import ESCAPED, escape, file_of
from imgcls.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
"""The separator of columns by the ending of the file's name."""
REQUIRED: Final = ("path", "label")
SPLIT: Final = "split"
FIRST_LINE: Final = 2
"""Line of the first row; the header is the line before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A row of the table as text; ``line`` is its number in the file if no cell contains a line break."""

    line: int
    image_id: str
    label: str
    split: str
    others: tuple[str, ...]


def is_table(path: Path) -> bool:
    """Return whether a name ends like that of a table."""
    return path.suffix.lower() in SEPARATORS


def read_table(path: Path, *, root: Path, name: str) -> Dataset:
    """List the files of a table with the columns ``path`` and ``label``, in any case, and optionally ``split``.

    Paths are relative to ``root``. All other columns are kept, so that images can be grouped by them. Rows that cannot
    be used (a blank cell, a missing file, an unknown split, a repeated path) are listed in ``Dataset.rejected``.

    Raises DataError if the table cannot be read, lacks a column, or has no usable rows or only one class.
    """
    table = read_rows(path, required=REQUIRED)
    columns = tuple(name for name in table.columns if name not in {*REQUIRED, SPLIT})
    entries = _entries(table, columns, root=root)
    # A split is given if any row has one; a blank cell is then an error of that row.
    given = any(entry.split for entry in entries)
    rejected = {entry.line: reason for entry in entries if (reason := _fault(entry, root=root, given=given))}
    rejected |= _repeated([entry for entry in entries if entry.line not in rejected])
    usable = [entry for entry in entries if entry.line not in rejected]
    class_names = tuple(sorted({entry.label for entry in usable}))
    _require_classes(path, class_names, rejected)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    files = (
        ImageFile(
            image_id=entry.image_id,
            label=label_of[entry.label],
            split=SPLIT_OF[entry.split.lower()] if given else None,
            values=entry.others,
        )
        for entry in usable
    )
    return Dataset(
        name=name,
        root=root,
        class_names=class_names,
        files=tuple(sorted(files, key=lambda file: file.image_id)),
        given_splits=given,
        columns=columns,
        rejected=tuple(
            Removal(
                image_id=entry.image_id or f"line {entry.line}",
                label=label_of.get(entry.label),
                reason=rejected[entry.line],
            )
            for entry in entries
            if entry.line in rejected
        ),
    )


def read_rows(path: Path, *, required: Sequence[str]) -> "pd.DataFrame":
    """Return a table as text, with the names of its columns in lower case.

    Raises DataError if it cannot be read, or does not have each column of ``required`` once.
    """
    import pandas as pd  # noqa: PLC0415 - takes half a second, which commands on folders need not wait for

    try:
        with warnings.catch_warnings():
            # Of rows that are longer than the header, pandas would drop the last cells with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # As text: "007", "NA" and "1.0" are labels. Spreadsheets write a byte order mark before the header.
            table = pd.read_csv(
                path,
                sep=SEPARATORS[path.suffix.lower()],
                dtype=str,
                keep_default_na=False,
                index_col=False,
                skip_blank_lines=False,
                encoding="utf-8-sig",
            ).fillna("")
    # The errors of pandas and of decoding are ValueErrors.
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        message = f"{path.name}: not a table that can be read ({' '.join(str(error).split())})"
        raise DataError(message) from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    counts = Counter(table.columns)
    for column in (*required, *counts):
        if counts[column] != 1:
            has = f"has {counts[column]} columns" if counts[column] else "has no column"
            message = (
                f"{path.name} {has} {column!r}; columns there: {', '.join(counts)}; needed: {' and '.join(required)}"
            )
            raise DataError(message)
    return table


def _entries(table: "pd.DataFrame", columns: Sequence[str], *, root: Path) -> list[_Entry]:
    """Return the rows that are not blank."""
    rows = [{name: cell.strip() for name, cell in row.items()} for row in table.to_dict("records")]
    return [
        _Entry(
            line=number,
            image_id=_image_id(row["path"], root=root),
            label=row["label"],
            split=row.get(SPLIT, ""),
            others=tuple(row[name] for name in columns),
        )
        for number, row in enumerate(rows, FIRST_LINE)
        if any(row.values())
    ]


def _image_id(path: str, *, root: Path) -> str:
    """Return a path of the table relative to ``root``, or as it is if it is blank, escaped or outside of it."""
    if not path or path.startswith(ESCAPED):
        return path
    if Path(path).is_absolute():
        # Records hold image ids and must not contain paths of a machine; ``_fault`` refuses what stays absolute.
        inside = Path(os.path.normpath(path)).is_relative_to(root.resolve())
        path = os.path.relpath(path, root.resolve()) if inside else path
    return escape(Path(os.path.normpath(path)).as_posix())


def _fault(entry: _Entry, *, root: Path, given: bool) -> str | None:
    """Return why a row cannot be used, or None."""
    if not entry.image_id:
        return "blank path"
    if Path(entry.image_id).is_absolute():
        return "absolute path outside the folder"
    if not entry.label:
        return "blank label"
    if given and entry.split.lower() not in SPLIT_OF:
        known = ", ".join(SPLIT_NAMES)
        return f"unknown split {entry.split!r} (known: {known})" if entry.split else "blank split"
    return None if file_of(root, entry.image_id).exists() else "no such file"


def _repeated(entries: Sequence[_Entry]) -> dict[int, str]:
    """Return the reason for each row that repeats a path: with other content it is unknown which row is right."""
    by_path: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_path.setdefault(entry.image_id, []).append(entry)
    reasons = {}
    for rows in by_path.values():
        alike = len({(row.label, row.split.lower(), row.others) for row in rows}) == 1
        for row in rows[1:] if alike else rows:
            reasons[row.line] = "row repeated" if alike else "several rows of one path that differ"
    return reasons


def _require_classes(path: Path, class_names: Sequence[str], rejected: dict[int, str]) -> None:
    if not class_names:
        message = f"{path.name} has no usable row{_counted(rejected.values())}"
        raise DataError(message)
    if len(class_names) == 1:
        skipped = f"; rejected rows{_counted(rejected.values())}" if rejected else ""
        message = f"one class only ({class_names[0]}) in {path.name}: a classifier needs two or more{skipped}"
        raise DataError(message)


def _counted(reasons: Iterable[str]) -> str:
    counts = Counter(reasons)
    return f": {', '.join(f'{count} x {reason}' for reason, count in counts.most_common())}" if counts else ""
