"""Data sets stored as class folders, with or without split folders."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.errors import DataError

# Keras tutorials name the validation folder "validation", fastai's data sets "valid".
SPLIT_FOLDERS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A labelled image file; ``image_id`` is its path relative to the data set's root, with forward slashes."""

    image_id: str
    label: int
    split: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled files under one root; ``given_splits`` is true if the data set has split folders."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    files: tuple[ImageFile, ...]
    given_splits: bool


def read_folder(root: Path, *, name: str) -> Dataset:
    """List the files of a folder of class folders, or of ``train``, ``val`` and ``test`` folders of class folders.

    Raises DataError if there are no images, fewer than two classes, or ambiguous split folders.
    """
    folders = _subfolders(root)
    given = {folder.name: SPLIT_FOLDERS[folder.name] for folder in folders if folder.name in SPLIT_FOLDERS}
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
        ImageFile(image_id=path.relative_to(root).as_posix(), label=label_of[path_class], split=split)
        for path, path_class, split in listed
    )
    return Dataset(
        name=name,
        root=root,
        class_names=class_names,
        files=tuple(sorted(files, key=lambda file: file.image_id)),
        given_splits=bool(splits),
    )


def _checked_splits(root: Path, names: list[str], given: dict[str, str]) -> dict[str, str]:
    """Return the split of each split folder by folder name; an empty dict if the data set has no split folders."""
    # A class may be called "test". Folders are splits only if all of them have split names and contain class folders,
    # or if there is a train folder beside a val or test folder.
    nested = bool(given) and set(names) == set(given) and all(_subfolders(root / name) for name in names)
    if not nested and ("train" not in given or not {"val", "test"} & set(given.values())):
        return {}
    if "train" not in given:
        message = f"{root.name} has {', '.join(given)} and no train: add train/, or one folder per class"
        raise DataError(message)
    if doubled := [name for name, split in given.items() if split == "val"][1:]:
        message = f"{root.name} has two validation folders ({', '.join(doubled)} and another): keep one"
        raise DataError(message)
    if odd := sorted(set(names) - set(given)):
        message = f"{root.name} has train/ and also {', '.join(odd)}/: move folders that are not splits elsewhere"
        raise DataError(message)
    return given


def _subfolders(parent: Path) -> list[Path]:
    # Hidden folders, such as .git or .ipynb_checkpoints, are not classes.
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [parent / name for name in sorted(names)]


def _walk(parent: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file below the class folders of ``parent``, including nested folders, with its class."""
    # Not filtered by extension: the audit finds images with a wrong one or none, and reports what is not an image.
    for folder in _subfolders(parent):
        for place, subfolders, names in os.walk(folder):
            # In place, because os.walk visits the folders that remain in this list, in its order.
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield Path(place) / name, folder.name
