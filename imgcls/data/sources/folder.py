"""Data sets stored as class folders, with or without split folders."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.data.sources.names import escape
from imgcls.errors import DataError

SPLIT_NAMES: Final = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "holdout"),
}
"""Usual names of the folder of each split, in lower case: Keras has "validation", fastai "valid", Kaggle "training"."""

SPLIT_OF: Final = {name: split for split, names in SPLIT_NAMES.items() for name in names}

EXAMPLES_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A labelled image file; ``image_id`` is its path relative to the data set's root, with forward slashes."""

    image_id: str
    label: int
    split: str | None
    values: tuple[str, ...] = ()
    """Its values of the data set's ``columns``, in their order; empty where a table has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """A file that is skipped in every split, and the reason; ``label`` is None if it has no valid one."""

    image_id: str
    label: int | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled files under one root; ``given_splits`` is true if the data set has split folders."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    files: tuple[ImageFile, ...]
    given_splits: bool
    empty_folders: tuple[str, ...] = ()
    """Class folders without any file: they are no classes."""
    columns: tuple[str, ...] = ()
    """Names of further columns of a table of labels, by which images can be grouped."""
    rejected: tuple[Removal, ...] = ()
    """Rows of a table of labels that cannot be used."""


def read_folder(root: Path, *, name: str) -> Dataset:
    """List the files of a folder of class folders, or of ``train``, ``val`` and ``test`` folders of class folders.

    Raises DataError if there are no images, fewer than two classes, or ambiguous split folders.
    """
    folders = _subfolders(root)
    given = {folder.name: SPLIT_OF[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_OF}
    splits = _checked_splits(root, [folder.name for folder in folders], given)
    parents: list[tuple[Path, str | None]] = [(root / folder, split) for folder, split in splits.items()]
    parents = parents or [(root, None)]
    listed = [(path, path_class, split) for parent, split in parents for path, path_class in _walk(parent)]
    # Sorted, and one mapping for all splits: labels must not depend on the order of the file system's entries.
    class_names = tuple(sorted({path_class for _, path_class, _ in listed}))
    if not listed:
        message = f"no images in {root.name}: put them into one folder per class, as {root.name}/CLASS/IMAGE"
        raise DataError(message)
    if len(class_names) == 1:
        message = f"one class only ({class_names[0]}) in {root.name}: a classifier needs two class folders or more"
        raise DataError(message)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    files = (
        ImageFile(image_id=escape(path.relative_to(root).as_posix()), label=label_of[path_class], split=split)
        for path, path_class, split in listed
    )
    return Dataset(
        name=name,
        root=root,
        class_names=class_names,
        files=tuple(sorted(files, key=lambda file: file.image_id)),
        given_splits=bool(splits),
        empty_folders=_empty_folders(root, [parent for parent, _ in parents], {path for path, _, _ in listed}),
    )


def _empty_folders(root: Path, parents: list[Path], files: set[Path]) -> tuple[str, ...]:
    filled = {parent for file in files for parent in file.parents}
    folders = [folder for parent in parents for folder in _subfolders(parent) if folder not in filled]
    return tuple(escape(folder.relative_to(root).as_posix()) for folder in folders)


def _checked_splits(root: Path, names: list[str], given: dict[str, str]) -> dict[str, str]:
    """Return the split of each split folder by folder name; an empty dict if the data set has no split folders."""
    # A class may be called "test". Folders are splits only if all of them have split names and contain class folders,
    # or if there is a train folder beside a val or test folder.
    found = set(given.values())
    nested = bool(given) and set(names) == set(given) and all(_subfolders(root / name) for name in names)
    if not nested and ("train" not in found or not {"val", "test"} & found):
        return {}
    if "train" not in found:
        message = f"{root.name} has {', '.join(given)} and no train folder: add train/, or one folder per class"
        raise DataError(message)
    for split in found:
        if len(same := [name for name in names if given.get(name) == split]) > 1:
            message = f"{root.name} has several {split} folders ({', '.join(same)}): keep one"
            raise DataError(message)
    if odd := sorted(set(names) - set(given)):
        message = (
            f"{root.name} has split folders and also {', '.join(odd)}/: move folders that are not splits elsewhere"
        )
        raise DataError(message)
    _refuse_deeper_folders(root, list(given))
    return given


def _refuse_deeper_folders(root: Path, splits: list[str]) -> None:
    """Raise DataError if the class folders of a split contain only folders: which level the classes are is unknown."""
    for split in splits:
        for folder in _subfolders(root / split):
            inner = _subfolders(folder)
            if inner and not any(entry.is_file() for entry in os.scandir(folder)):
                shown = [place.relative_to(root).as_posix() for place in inner[:EXAMPLES_SHOWN]]
                more = f" and {len(inner) - EXAMPLES_SHOWN} more" if len(inner) > EXAMPLES_SHOWN else ""
                message = (
                    f"{root.name}: {split}/{folder.name}/ contains folders and no files ({', '.join(shown)}{more}); "
                    f"move the folders of the classes up to {split}/CLASS/, or their images to {split}/{folder.name}/"
                )
                raise DataError(message)


def _subfolders(parent: Path) -> list[Path]:
    # Hidden folders, such as .git or .ipynb_checkpoints, are not classes.
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [parent / name for name in sorted(names)]


def _walk(parent: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file below the class folders of ``parent``, including nested folders, with its class."""
    # Not filtered by extension: the audit finds images with a wrong one or none, and reports what is not an image.
    for folder in _subfolders(parent):
        for path in visible_files(folder):
            yield path, escape(folder.name)


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, sorted, without hidden names; raises DataError if a folder cannot be read."""
    for place, subfolders, names in os.walk(folder, onerror=_refuse):
        # In place, because os.walk visits the folders that remain in this list, in its order.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    # os.walk would skip the folder, and with it a class or a part of one.
    message = f"{error.filename}: cannot be read ({error.strerror})"
    raise DataError(message) from error
