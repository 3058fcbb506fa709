"""Public data sets from ``torchvision.datasets``, downloaded on first use and stored as class folders.

torchvision is imported only when one of them is downloaded.
"""

import importlib
import os
import shutil
import urllib.error
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from imgcls.errors import DataError
from imgcls.messages import Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class TorchvisionSet:
    """A class of ``torchvision.datasets``; ``parts`` maps each of our splits to its arguments (None: no splits)."""

    class_name: str
    parts: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    keeps_files: bool = True
    """True if the class takes a ``loader``, so that the original files can be kept instead of encoded again."""


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
    # The first of DTD's ten partitions, torchvision's default.
    "dtd": TorchvisionSet(class_name="DTD", parts=_by_split("train", "val", "test")),
    "food101": TorchvisionSet(class_name="Food101", parts=_by_split("train", "test")),
    # Imagenette has only train and val. Published results are on val, so it is our test split.
    "imagenette": TorchvisionSet(
        class_name="Imagenette",
        parts={"train": {"split": "train", "size": "320px"}, "test": {"split": "val", "size": "320px"}},
    ),
}
"""Public data sets by the name that ``load_dataset`` takes (https://docs.pytorch.org/vision/stable/datasets.html)."""


def write_named_set(folder: Path, *, name: str) -> None:
    """Download a public data set and write it below ``folder`` as SPLIT/CLASS/FILE; the raw download is removed.

    Raises DataError if it cannot be downloaded.
    """
    entry = TORCHVISION_SETS[name]
    raw = folder.parent / f"{name}.raw"
    loader = {"loader": Path} if entry.keeps_files else {}
    try:
        dataset_class = getattr(importlib.import_module("torchvision.datasets"), entry.class_name)
        for split, kwargs in entry.parts.items():
            _write_part(dataset_class(root=str(raw), download=True, **kwargs, **loader), folder / (split or ""))
    # torchvision raises RuntimeError if a download is incomplete or has a wrong checksum.
    except (urllib.error.URLError, ConnectionError, TimeoutError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = f": cannot be downloaded here ({reason}); use a folder, or 'digits'"
        raise DataError(Setting("data", name), hint) from error
    # Kept after an error: torchvision does not download an archive with the right checksum again.
    shutil.rmtree(raw, ignore_errors=True)


def _write_part(dataset: Any, folder: Path) -> None:  # noqa: ANN401
    # Imagenette's class names are tuples of synonyms, and FashionMNIST has a class "T-shirt/top".
    first_names = [names if isinstance(names, str) else names[0] for names in dataset.classes]
    class_names = [name.replace("/", "-") for name in first_names]
    for class_name in class_names:
        (folder / class_name).mkdir(parents=True, exist_ok=True)
    # By index, because torchvision's data sets do not define __iter__.
    for index in range(len(dataset)):
        picture, label = dataset[index]
        stem = folder / class_names[label] / f"{index:06d}"
        if isinstance(picture, Path):
            target = stem.with_suffix(picture.suffix.lower())
            try:
                os.link(picture, target)
            except OSError:  # exFAT and some network file systems have no hard links
                shutil.copyfile(picture, target)
        else:
            # PNG is lossless; the images of these classes are arrays or already decoded.
            picture.save(stem.with_suffix(".png"))
