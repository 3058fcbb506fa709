"""Public data sets through ``torchvision.datasets``, downloaded when asked for and laid out as folders.

torchvision is imported only when one of them is asked for.
"""

import importlib
import os
import shutil
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from imgcls.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchvisionSet:
    """A class of ``torchvision.datasets``; each of its parts becomes one of our splits (None: not divided)."""

    class_name: str
    parts: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    keeps_files: bool = True
    """Whether it takes a ``loader``, so that the original files can be kept instead of encoded again."""


def _by_split(*splits: str) -> dict[str | None, dict[str, Any]]:
    return {split: {"split": split} for split in splits}


_TRAIN_TEST_FLAG: Final[dict[str | None, dict[str, Any]]] = {"train": {"train": True}, "test": {"train": False}}

TORCHVISION_SETS: Final[dict[str, TorchvisionSet]] = {
    "cifar10": TorchvisionSet(class_name="CIFAR10", parts=_TRAIN_TEST_FLAG, keeps_files=False),
    "cifar100": TorchvisionSet(class_name="CIFAR100", parts=_TRAIN_TEST_FLAG, keeps_files=False),
    "fashionmnist": TorchvisionSet(class_name="FashionMNIST", parts=_TRAIN_TEST_FLAG, keeps_files=False),
    "flowers102": TorchvisionSet(class_name="Flowers102", parts=_by_split("train", "val", "test")),
    "oxfordiiitpet": TorchvisionSet(
        class_name="OxfordIIITPet",
        parts={"train": {"split": "trainval"}, "test": {"split": "test"}},
        keeps_files=False,
    ),
    "eurosat": TorchvisionSet(class_name="EuroSAT", parts={None: {}}),
    "dtd": TorchvisionSet(class_name="DTD", parts=_by_split("train", "val", "test")),
    "food101": TorchvisionSet(class_name="Food101", parts=_by_split("train", "test")),
    # Imagenette has train and val only; its val is the part that others report on, so it is our test.
    "imagenette": TorchvisionSet(
        class_name="Imagenette",
        parts={"train": {"split": "train", "size": "320px"}, "test": {"split": "val", "size": "320px"}},
    ),
}
"""Public sets by the name that ``--data`` takes (https://docs.pytorch.org/vision/stable/datasets.html)."""


def write_named_set(folder: Path, *, name: str) -> None:
    """Download a public set and write it below ``folder`` as SPLIT/CLASS/FILE; the raw download is removed.

    Raises DataError where it cannot be downloaded.
    """
    entry = TORCHVISION_SETS[name]
    raw = folder.parent / f"{name}.raw"
    try:
        for split, kwargs in entry.parts.items():
            _write_part(_open_part(entry, raw, kwargs), folder / (split or ""))
    except (urllib.error.URLError, ConnectionError, TimeoutError, RuntimeError) as error:
        message = f"--data {name}: cannot be downloaded here ({_first_line(error)}); use a folder, or 'digits'"
        raise DataError(message) from error
    shutil.rmtree(raw, ignore_errors=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _open_part(entry: TorchvisionSet, raw: Path, kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - torchvision has no common type
    dataset_class = getattr(importlib.import_module("torchvision.datasets"), entry.class_name)
    loader = {"loader": Path} if entry.keeps_files else {}
    return dataset_class(root=str(raw), download=True, **kwargs, **loader)


def _write_part(dataset: Any, folder: Path) -> None:  # noqa: ANN401
    class_names = [_folder_name(class_name) for class_name in dataset.classes]
    for class_name in class_names:
        (folder / class_name).mkdir(parents=True, exist_ok=True)
    for index, (picture, label) in enumerate(_items(dataset)):
        stem = folder / class_names[label] / f"{index:06d}"
        if isinstance(picture, Path):
            _link_or_copy(picture, stem.with_suffix(picture.suffix.lower()))
        else:
            picture.save(stem.with_suffix(".png"))


def _items(dataset: Any) -> Iterator[tuple[Any, int]]:  # noqa: ANN401
    """Return a picture, or the path of one, with its label."""
    return (dataset[index] for index in range(len(dataset)))


def _folder_name(class_name: str | tuple[str, ...]) -> str:
    name = class_name if isinstance(class_name, str) else class_name[0]
    return name.replace("/", "-")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
