"""Data sets described by a table of labels: a CSV or TSV file with the path and the label of each image."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.data.sources.file_names import Located, Locator, composed, ids_of
from imgcls.data.sources.folder import SPLIT_NAMES, SPLIT_OF, Dataset, ImageFile, Removal
from imgcls.data.sources.rows import Row, read_rows
from imgcls.errors import DataError

REQUIRED: Final = ("path", "label")
SPLIT: Final = "split"
PATH_SHOWN: Final = 200
LONGEST_CELL: Final = 4096
"""Characters of a cell: as many as Linux allows in a path. Labels and values are shown in tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry:
    """A row of the table as text, and the file that its path leads to; ``line`` is its last line in the table."""

    line: int
    path: str
    located: Located
    label: str
    split: str
    others: tuple[str, ...]


def read_table(path: Path, *, root: Path | None = None, name: str | None = None) -> Dataset:
    """List the files of a table with the columns ``path`` and ``label``, in any case, and optionally ``split``.

    Paths are relative to ``root``. Without it they are relative to the table's folder; if some are absolute and lead
    elsewhere, the root is the folder that all files have in common, and no absolute path is stored. All other columns
    are kept, so that images can be grouped by them. Rows that cannot be used (a blank cell, a missing file, an unknown
    split, a repeated path) are listed in ``Dataset.rejected``.

    Raises DataError if the table cannot be read, lacks a column, or has no usable rows or only one class.
    """
    columns, rows = read_rows(path, required=REQUIRED)
    others = tuple(column for column in columns if column not in {*REQUIRED, SPLIT})
    home = (root or path.parent).absolute()
    locator = Locator(folder=home)
    entries = [_entry(line, row, others, locator) for line, row in rows]
    root = home if root is not None else _common_root(path, home, entries)
    # A split is given if any row has one; a blank cell is then an error of that row.
    given = any(entry.split for entry in entries)
    rejected = {entry.line: reason for entry in entries if (reason := _fault(entry, root=root, given=given))}
    paths = {entry.line: entry.located.path for entry in entries if entry.line not in rejected}
    ids = {
        line: ids_of(_inside(file, root) or Path(os.path.relpath(file, root)).as_posix())
        for line, file in paths.items()
    }
    rejected |= _repeated([entry for entry in entries if entry.line in ids], {line: ids[line][0] for line in ids})
    usable = [entry for entry in entries if entry.line not in rejected]
    class_names = tuple(sorted({entry.label for entry in usable}))
    _require_classes(path, class_names, entries, rejected)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    files = [_image_file(entry, ids[entry.line], label_of[entry.label], given=given) for entry in usable]
    return Dataset(
        name=name or root.resolve().name,
        root=root,
        class_names=class_names,
        files=tuple(sorted(files, key=lambda file: file.image_id)),
        given_splits=given,
        columns=others,
        rejected=tuple(
            Removal(
                # Audits must not contain paths of a machine.
                image_id=f"line {entry.line}"
                if not entry.path or entry.located.absolute or _is_long(entry)
                else ids_of(entry.path)[0],
                label=label_of.get(entry.label),
                reason=rejected[entry.line],
            )
            for entry in entries
            if entry.line in rejected
        ),
    )


def _entry(line: int, row: Row, others: Sequence[str], locator: Locator) -> _Entry:
    return _Entry(
        line=line,
        path=row["path"],
        located=locator.locate(row["path"]),
        # Composed, as the names of class folders: equal labels and values may be spelt in two ways.
        label=composed(row["label"]),
        split=row.get(SPLIT, ""),
        others=tuple(composed(row[name]) for name in others),
    )


def _image_file(entry: _Entry, ids: tuple[str, str | None], label: int, *, given: bool) -> ImageFile:
    image_id, own_path = ids
    split = SPLIT_OF[entry.split.lower()] if given else None
    return ImageFile(image_id=image_id, label=label, split=split, values=entry.others, own_path=own_path)


def _common_root(table: Path, home: Path, entries: Sequence[_Entry]) -> Path:
    """Return the table's folder or, if absolute paths lead out of it, the folder that all files have in common.

    Raises DataError if they have none.
    """
    files = [entry.located for entry in entries if entry.path and entry.located.reason is None]
    if all(_inside(file.path, home) is not None for file in files if file.absolute):
        return home
    try:
        common = Path(os.path.commonpath([file.path.parent for file in files]))
    except ValueError:  # several drives
        common = Path(home.anchor)
    if common == Path(common.anchor):
        message = (
            f"{table.name}: its files have no folder in common, such as {files[0].path} and {files[-1].path}; "
            "link them below one folder"
        )
        raise DataError(message)
    return common


def _inside(path: Path, root: Path) -> str | None:
    """Return an absolute path relative to ``root``, perhaps through links to either; None if it is elsewhere."""
    for own, folder in (
        (path, root),
        (path, root.resolve()),
        # Not the file itself, which may be a link to another folder.
        (path.parent.resolve() / path.name, root.resolve()),
    ):
        if own.is_relative_to(folder):
            return own.relative_to(folder).as_posix()
    return None


def _is_long(entry: _Entry) -> bool:
    return max(map(len, (entry.path, entry.label, entry.split, *entry.others))) > LONGEST_CELL


def _fault(entry: _Entry, *, root: Path, given: bool) -> str | None:
    """Return why a row cannot be used, or None."""
    if _is_long(entry):
        return f"a cell of over {LONGEST_CELL:,} characters"
    if not entry.path:
        return "blank path"
    # Records hold image ids and must not contain paths of a machine.
    if entry.located.reason is None and entry.located.absolute and _inside(entry.located.path, root) is None:
        return "absolute path outside the folder"
    if not entry.label:
        return "blank label"
    if given and entry.split.lower() not in SPLIT_OF:
        split_names = ", ".join(SPLIT_NAMES)
        return f"unknown split {entry.split!r} (known: {split_names})" if entry.split else "blank split"
    return entry.located.reason


def _repeated(entries: Sequence[_Entry], ids: Mapping[int, str]) -> dict[int, str]:
    """Return the reason for each row that repeats a path: with other content it is unknown which row is right."""
    by_path: dict[str, list[_Entry]] = {}
    for entry in entries:
        by_path.setdefault(ids[entry.line], []).append(entry)
    reasons = {}
    for rows in by_path.values():
        alike = len({(row.label, row.split.lower(), row.others) for row in rows}) == 1
        for row in rows[1:] if alike else rows:
            reasons[row.line] = "row repeated" if alike else "several rows of one path that differ"
    return reasons


def _require_classes(
    path: Path, class_names: Sequence[str], entries: Sequence[_Entry], rejected: Mapping[int, str]
) -> None:
    if not class_names:
        message = f"{path.name} has no usable row{_counted(entries, rejected)}"
        raise DataError(message)
    if len(class_names) == 1:
        skipped = f"; rejected rows{_counted(entries, rejected)}" if rejected else ""
        message = f"one class only ({class_names[0]}) in {path.name}: a classifier needs two or more{skipped}"
        raise DataError(message)


def _counted(entries: Sequence[_Entry], rejected: Mapping[int, str]) -> str:
    """Return the number of rows by reason, with an example of a file that was looked for."""
    if not rejected:
        return ""
    reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(rejected.values()).most_common())
    missing = (entry.located.path for entry in entries if entry.path and entry.located.reason is not None)
    example = next((f"; looked for {str(path)[:PATH_SHOWN]}" for path in missing), "")
    return f": {reasons}{example}"
