"""Named data sets: the embedded digits, and sets that are downloaded and written as folders once."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock
from PIL import Image

from imgcls.data.sources import torchvision_sets
from imgcls.data.sources.folder import Dataset, read_folder
from imgcls.errors import DataError

DONE: Final = ".complete"
"""Written last into a named set's folder: its existence means that the set is whole."""


def load_dataset(data: str, *, cache: Path) -> Dataset:
    """List the labelled files of a named set or of a folder.

    ``cache`` is where named sets are kept. Raises DataError: no such folder or name, no images, one class,
    a given split without ``train``.
    """
    key = data.lower()
    if key in DATASETS:
        return read_folder(_materialise(key, cache), name=key)
    root = Path(data).expanduser()
    if not root.is_dir():
        message = f"--data {data}: no such folder, and no data set of that name; known: {', '.join(DATASETS)}"
        raise DataError(message)
    return read_folder(root, name=root.resolve().name)


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak 1998) as 8 x 8 grey PNG files."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - three seconds to import

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        grey = np.rint(pixels * (255 / 16)).astype(np.uint8)
        target = folder / str(label) / f"{index:04d}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(target)


DATASETS: Final[dict[str, Callable[[Path], None]]] = {
    "digits": write_digits,
    **{name: partial(torchvision_sets.write_named_set, name=name) for name in torchvision_sets.TORCHVISION_SETS},
}
"""Named data sets: each function writes its files below a folder, as CLASS/FILE or as SPLIT/CLASS/FILE."""


def _materialise(name: str, cache: Path) -> Path:
    """Write a named set once, aside and then renamed, safe when two commands want it at once."""
    folder = cache / "datasets" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / DONE).exists():
            partial_folder = folder.with_suffix(".partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial_folder.mkdir()
            DATASETS[name](partial_folder)
            (partial_folder / DONE).touch()
            partial_folder.rename(folder)
    return folder
