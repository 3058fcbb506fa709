"""Named data sets: scikit-learn's digits, and public data sets, written as class folders on first use."""

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
from imgcls.files import default_cache

DONE: Final = ".complete"
"""Empty file that is written last into a named data set's folder; if it exists, the data set is complete."""


def load_dataset(data: str, *, cache: Path | None = None) -> Dataset:
    """List the labelled files of a named data set or of a folder.

    Named data sets are stored in ``cache``. Raises DataError if there is no such folder or name, if there are no
    images or only one class, or if split folders lack ``train``.
    """
    # A name takes precedence over a folder of the same name in the working directory, which is still read as ./NAME.
    key = data.lower()
    if key in DATASETS:
        return read_folder(_materialise(key, cache or default_cache()), name=key)
    root = Path(data).expanduser()
    if not root.is_dir():
        message = f"--data {data}: no such folder, and no data set of that name; known: {', '.join(DATASETS)}"
        raise DataError(message)
    # resolve(), because the name of Path(".") is empty.
    return read_folder(root, name=root.resolve().name)


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak 1998) as 8 x 8 grey PNG files."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes three seconds to import

    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        # The digits are stored as 0 to 16.
        grey = np.rint(pixels * (255 / 16)).astype(np.uint8)
        target = folder / str(label) / f"{index:04d}.png"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(grey).save(target)


DATASETS: Final[dict[str, Callable[[Path], None]]] = {
    "digits": write_digits,
    **{name: partial(torchvision_sets.write_named_set, name=name) for name in torchvision_sets.TORCHVISION_SETS},
}
"""Named data sets; each function writes the files below a folder, as CLASS/FILE or as SPLIT/CLASS/FILE."""


def _materialise(name: str, cache: Path) -> Path:
    """Write a named data set once; safe if several processes need it at the same time."""
    folder = cache / "datasets" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / DONE).exists():
            partial_folder = folder.with_suffix(".partial")
            shutil.rmtree(partial_folder, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            partial_folder.mkdir()
            DATASETS[name](partial_folder)
            # Renamed last, so that an interrupted download never leaves a folder under the final name.
            (partial_folder / DONE).touch()
            partial_folder.rename(folder)
    return folder
