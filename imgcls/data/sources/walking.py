"""The files below a folder: without hidden ones, and through links to other folders."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from imgcls.errors import DataError

IGNORED: Final = ".imgcls-ignore"
"""A folder with a file of this name is not read: results folders have it, because they may lie among the photos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """The files below a folder, sorted, and the linked folders that were not followed, each with the reason."""

    files: tuple[Path, ...]
    not_followed: tuple[tuple[Path, str], ...]


def walk(folder: Path, *, root: Path) -> Walk:
    """List the visible files below a folder of the data set in ``root``.

    A link to a folder is followed once, unless it leads to one that is read anyway, whose images would count twice, and
    perhaps in two classes: a folder inside ``root``, or one that contains it. Raises DataError if a folder cannot be
    read.
    """
    top, files, not_followed = root.resolve(), list[Path](), list[tuple[Path, str]]()
    seen = {folder.resolve()}
    for name, subfolders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        parent, followed = Path(name), []
        for subfolder in map(parent.joinpath, sorted(subfolders)):
            if _is_ignored(subfolder):
                continue
            reason = reason_of_link(subfolder, top)
            # Also a folder that is no link: what a link leads to may contain a folder that was read before.
            if subfolder.resolve() in seen:
                reason = "folder that was read before, through a link"
            if reason is None:
                followed.append(subfolder.name)
                seen.add(subfolder.resolve())
            else:
                not_followed.append((subfolder, reason))
        # In place, because os.walk visits the folders that remain in this list, in its order.
        subfolders[:] = followed
        files += [parent / file for file in sorted(names) if not file.startswith(".")]
    return Walk(files=tuple(files), not_followed=tuple(not_followed))


def subfolders_of(parent: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted; raises DataError if it cannot be read."""
    try:
        with os.scandir(parent) as entries:
            folders = [parent / entry.name for entry in entries if entry.is_dir()]
    except OSError as error:
        _refuse(error)
    return sorted(folder for folder in folders if not _is_ignored(folder))


def _is_ignored(folder: Path) -> bool:
    # Hidden folders, such as .git or .ipynb_checkpoints, are not classes.
    if folder.name.startswith("."):
        return True
    try:
        return (folder / IGNORED).exists()
    except OSError:  # a folder that may not be entered, which ``walk`` refuses
        return False


def reason_of_link(folder: Path, top: Path) -> str | None:
    """Return why a folder is not followed if it is a link into the data set in ``top``, a resolved path; else None."""
    target = folder.resolve()
    # Python knows the junctions of Windows from 3.12 on.
    if not (folder.is_symlink() or getattr(folder, "is_junction", bool)()):
        return None
    if top.is_relative_to(target):
        return "link to a folder that contains the data set"
    if target.is_relative_to(top) and not any(part.startswith(".") for part in target.relative_to(top).parts):
        return f"link to {target.relative_to(top).as_posix()}/, which is read there"
    return None


def _refuse(error: OSError) -> NoReturn:
    # os.walk would skip the folder, and with it a class or a part of one.
    message = f"{error.filename}: cannot be read ({error.strerror})"
    raise DataError(message) from error
