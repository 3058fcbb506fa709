"""Data sets stored as class folders, with or without split folders."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.data.sources.file_names import composed, escape, ids_of
from imgcls.data.sources.walking import Walk, reason_of_link, subfolders_of, walk
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
    """A labelled image file; ``image_id`` is its path relative to the data set's root, with forward slashes.

    The id is in Unicode's composed form, so that it is the same on all file systems.
    """

    image_id: str
    label: int
    split: str | None
    values: tuple[str, ...] = ()
    """Its values of the data set's ``columns``, in their order; empty where a table has none."""
    own_path: str | None = None
    """Its path as the file system spells it, if that differs from the id."""


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
    """Rows of a table of labels that cannot be used, and linked folders that were not followed."""


Walks = list[tuple[Path, str | None, Walk]]
"""Class folders, with the split that they belong to and what is below them."""


def read_folder(root: Path, *, name: str) -> Dataset:
    """List the files of a folder of class folders, or of ``train``, ``val`` and ``test`` folders of class folders.

    Raises DataError if there are no images, fewer than two classes, or ambiguous split folders.
    """
    folders = subfolders_of(root)
    given = {folder.name: SPLIT_OF[folder.name.lower()] for folder in folders if folder.name.lower() in SPLIT_OF}
    splits = _checked_splits(root, [folder.name for folder in folders], given)
    parents: list[tuple[Path, str | None]] = [(root / folder, split) for folder, split in splits.items()]
    parents = parents or [(root, None)]
    # Not filtered by extension: the audit finds images with a wrong one or none, and reports what is not an image.
    top = root.resolve()
    folders_of_classes = [(folder, split) for parent, split in parents for folder in subfolders_of(parent)]
    links = {folder: reason for folder, _ in folders_of_classes if (reason := reason_of_link(folder, top)) is not None}
    walks: Walks = [
        (folder, split, walk(folder, root=root)) for folder, split in folders_of_classes if folder not in links
    ]
    # Sorted, and one mapping for all splits: labels must not depend on the order of the file system's entries.
    class_names = tuple(sorted({_class_of(folder) for folder, _, contents in walks if contents.files}))
    _require_classes(root, class_names)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    files = []
    # Links in place of class folders: as classes of their own they would contradict the folder that they show.
    rejected: list[tuple[Path, int | None, str]] = [(link, None, reason) for link, reason in links.items()]
    for folder, split, contents in walks:
        class_name = _class_of(folder)
        for path in contents.files:
            image_id, own_path = ids_of(path.relative_to(root).as_posix())
            files.append(ImageFile(image_id=image_id, label=label_of[class_name], split=split, own_path=own_path))
        rejected += [(link, label_of.get(class_name), reason) for link, reason in contents.not_followed]
    require_distinct(name, files)
    return Dataset(
        name=name,
        root=root,
        class_names=class_names,
        files=tuple(sorted(files, key=lambda file: file.image_id)),
        given_splits=bool(splits),
        empty_folders=tuple(
            escape(folder.relative_to(root).as_posix()) for folder, _, contents in walks if not contents.files
        ),
        rejected=tuple(
            Removal(image_id=ids_of(link.relative_to(root).as_posix())[0], label=label, reason=reason)
            for link, label, reason in rejected
        ),
    )


def _class_of(folder: Path) -> str:
    return composed(escape(folder.name))


def _require_classes(root: Path, class_names: Sequence[str]) -> None:
    if not class_names:
        count = sum(1 for entry in root.iterdir() if entry.is_file() and not entry.name.startswith("."))
        there = f"{count:,} file(s) and no class folder with images" if count else "no images"
        message = f"{there} in {root}: put them into one folder per class, as {root.name}/CLASS/IMAGE"
        raise DataError(message)
    if len(class_names) == 1:
        message = f"one class only ({class_names[0]}) in {root.name}: a classifier needs two class folders or more"
        raise DataError(message)


def require_distinct(name: str, files: Sequence[ImageFile]) -> None:
    """Raise DataError if two files have the same id: their paths differ only in Unicode composition."""
    if len({file.image_id for file in files}) == len(files):
        return
    counts = Counter(file.image_id for file in files)
    image_id = max(counts, key=lambda image_id: counts[image_id])
    paths = [ascii(file.own_path or file.image_id) for file in files if file.image_id == image_id]
    message = f"{name}: paths that differ only in the composition of characters: {' and '.join(paths)}; rename one"
    raise DataError(message)


def _checked_splits(root: Path, names: list[str], given: dict[str, str]) -> dict[str, str]:
    """Return the split of each split folder by folder name; an empty dict if the data set has no split folders."""
    # A class may be called "test". Folders are splits only if all of them have split names and contain class folders,
    # or if there is a train folder beside a val or test folder.
    splits = set(given.values())
    nested = bool(given) and set(names) == set(given) and all(subfolders_of(root / name) for name in names)
    if not nested and ("train" not in splits or not {"val", "test"} & splits):
        return {}
    if "train" not in splits:
        message = f"{root.name} has {', '.join(given)} and no train folder: add train/, or one folder per class"
        raise DataError(message)
    for split in splits:
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
        for folder in subfolders_of(root / split):
            inner = subfolders_of(folder)
            if inner and not any(entry.is_file() for entry in os.scandir(folder)):
                examples = [subfolder.relative_to(root).as_posix() for subfolder in inner[:EXAMPLES_SHOWN]]
                more = f" and {len(inner) - EXAMPLES_SHOWN} more" if len(inner) > EXAMPLES_SHOWN else ""
                message = (
                    f"{root.name}: {split}/{folder.name}/ contains folders and no files ({', '.join(examples)}{more}); "
                    f"move the folders of the classes up to {split}/CLASS/, or their images to {split}/{folder.name}/"
                )
                raise DataError(message)
