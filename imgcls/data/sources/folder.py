"""Folders of class folders, with or without splits of their own."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.errors import DataError

SPLIT_FOLDERS: Final = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """One labelled file; ``image_id`` is its path relative to the root, with forward slashes."""

    image_id: str
    label: int
    split: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled files under one root; ``given_splits`` says that the folders divide them already."""

    name: str
    root: Path
    class_names: tuple[str, ...]
    files: tuple[ImageFile, ...]
    given_splits: bool


def read_folder(root: Path, *, name: str) -> Dataset:
    """List a folder of class folders, or of ``train``, ``val`` and ``test`` folders of class folders."""
    folders = _subfolders(root)
    given = {folder.name: SPLIT_FOLDERS[folder.name] for folder in folders if folder.name in SPLIT_FOLDERS}
    splits = _checked_splits(root, [folder.name for folder in folders], given)
    parents: list[tuple[Path, str | None]] = [(root / folder, split) for folder, split in splits.items()]
    parents = parents or [(root, None)]
    listed = [(path, path_class, split) for parent, split in parents for path, path_class in _walk(parent)]
    class_names = tuple(sorted({path_class for _, path_class, _ in listed}))
    if not listed:
        message = f"no images in {root.name}: put them into one folder a class, as {root.name}/CLASS/IMAGE"
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
    """Folder name to split where the data set is divided already; empty where it is not."""
    nested = bool(given) and set(names) == set(given) and all(_subfolders(root / name) for name in names)
    if not nested and ("train" not in given or not {"val", "test"} & set(given.values())):
        return {}
    if "train" not in given:
        message = f"{root.name} has {', '.join(given)} and no train: add train/, or one folder a class"
        raise DataError(message)
    if doubled := [name for name, split in given.items() if split == "val"][1:]:
        message = f"{root.name} has two validation folders ({', '.join(doubled)} and another): keep one"
        raise DataError(message)
    if odd := sorted(set(names) - set(given)):
        message = f"{root.name} has train/ and also {', '.join(odd)}/: move what is no split elsewhere"
        raise DataError(message)
    return given


def _subfolders(parent: Path) -> list[Path]:
    with os.scandir(parent) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return [parent / name for name in sorted(names)]


def _walk(parent: Path) -> Iterator[tuple[Path, str]]:
    """Every file below the class folders of ``parent``, nested ones too, with its class."""
    for folder in _subfolders(parent):
        for place, subfolders, names in os.walk(folder):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith("."):
                    yield Path(place) / name, folder.name
