"""The named data sets: scikit-learn's digits, and public data sets, written as class folders on first use."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgcls.data.sources.copied import hugging_face, shards, torchvision_sets
from imgcls.data.sources.folder import Dataset, read_folder
from imgcls.data.sources.locations import local
from imgcls.data.sources.rows import SEPARATORS, is_table
from imgcls.data.sources.table import read_table
from imgcls.errors import ConfigError, DataError
from imgcls.files import default_cache, write_once
from imgcls.messages import Setting


def load_dataset(data: str, *, labels: str | None = None, cache: Path | None = None) -> Dataset:
    """List the labelled files of a folder, a table, a named data set, or one that is copied first from elsewhere.

    ``data`` is a folder, a table of labels (``.csv`` or ``.tsv``), ``hf:`` and a folder or name, ``wds:`` and a pattern
    of shards, the URL of a folder or of shards in a cloud (``s3://``, ``gs://``, ``az://``), or a name in ``DATASETS``.
    ``labels`` is a table of the images in the folder ``data``. Data sets that are downloaded, converted or unpacked are
    stored in ``cache``.

    Raises ConfigError for ``labels`` without a folder or if a package is missing; DataError if there is no such data
    set, if it has no usable files or only one class, or if split folders lack ``train``.
    """
    data = local(data, cache=cache or default_cache())
    root = Path(data).expanduser()
    # The last part of "." is empty, and messages and records name a folder by it.
    root = root if root.name not in {"", ".."} else root.resolve()
    if labels is not None:
        return _with_labels(root, Path(labels).expanduser())
    if data.startswith(hugging_face.PREFIX):
        return hugging_face.load(data.removeprefix(hugging_face.PREFIX), cache=cache or default_cache())
    if data.startswith(shards.PREFIX):
        return shards.load(data.removeprefix(shards.PREFIX), cache=cache or default_cache())
    # A name takes precedence over a folder of the same name in the working directory, which is still read as ./NAME.
    key = data.lower()
    if key in DATASETS:
        folder = write_once(key, DATASETS[key], cache=cache or default_cache())
        return read_folder(folder, name=key)
    if is_table(root) and root.is_file():
        return read_table(root)
    if root.is_file():
        import tarfile  # noqa: PLC0415 - for the message of an error only
        import zipfile  # noqa: PLC0415

        archive = zipfile.is_zipfile(root) or tarfile.is_tarfile(root) or root.suffix.lower() in ARCHIVES
        kind = "an archive; unpack it, and give the folder" if archive else "a file; give a folder or a table"
        raise DataError(Setting("data", data), f": {kind}")
    if not root.is_dir():
        what = "file" if is_table(root) else "folder"
        reason = f": no such {what}, and no data set of that name; known: {', '.join(DATASETS)}"
        raise DataError(Setting("data", data), reason)
    return read_folder(root, name=name_of(root))


def absolute(data: str) -> str:
    """Return a folder, file or pattern as an absolute path, links as they are; the name of a data set as it is."""
    if data.startswith(shards.PREFIX):
        pattern = Path(data.removeprefix(shards.PREFIX)).expanduser()
        return f"{shards.PREFIX}{pattern.absolute()}"
    prefix = hugging_face.PREFIX if data.startswith(hugging_face.PREFIX) else ""
    path = Path(data.removeprefix(prefix)).expanduser()
    # As in ``load_dataset``: a name takes precedence over a folder of that name.
    return f"{prefix}{path.absolute()}" if data.lower() not in DATASETS and path.exists() else data


def name_of(root: Path) -> str:
    """Return the name of the data set of a folder."""
    # resolve(), because the name of Path(".") is empty.
    return root.resolve().name


def _with_labels(root: Path, table: Path) -> Dataset:
    if not root.is_dir():
        raise DataError(Setting("data", str(root)), ": no such folder")
    if not table.is_file():
        raise DataError(Setting("labels", str(table)), ": no such file")
    if not is_table(table):
        reason = f": not a table of labels; use a file ending in {' or '.join(SEPARATORS)}"
        raise ConfigError(Setting("labels", str(table)), reason)
    return read_table(table, root=root, name=name_of(root))


ARCHIVES: Final = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""Endings of archives; of some of these Python reads no others."""

UNEVEN_SIZES: Final = {"train": 100, "val": 25}
"""Images of the largest class of ``digits-uneven`` by split."""
UNEVEN_RATIO: Final = 20
"""The largest class of ``digits-uneven`` over the smallest, in train and val."""
UNEVEN_TEST: Final = 45
"""Test images of each class of ``digits-uneven``."""


def write_digits(folder: Path) -> None:
    """Write scikit-learn's 1,797 handwritten digits (UCI, Alpaydin and Kaynak 1998) as 8 x 8 grey PNG files."""
    for index, (pixels, label) in enumerate(zip(*_digits(), strict=True)):
        _write_png(folder / str(label) / f"{index:04d}.png", pixels)


def write_uneven_digits(folder: Path) -> None:
    """Write some of the digits as split folders: in train and val, class sizes fall from 0 to 9 by a factor of 20.

    The sizes form a geometric sequence, and test has equally many images of each class (Cui et al. 2019). Which images
    are taken is drawn with a fixed seed.
    """
    images, labels = _digits()
    generator = np.random.default_rng(0)
    for label in range(10):
        share = UNEVEN_RATIO ** (-label / 9)
        sizes = {name: max(round(size * share), 1) for name, size in UNEVEN_SIZES.items()} | {"test": UNEVEN_TEST}
        mixed = iter(generator.permutation(np.flatnonzero(labels == label)).tolist())
        for split, size in sizes.items():
            for index in islice(mixed, size):
                _write_png(folder / split / str(label) / f"{index:04d}.png", images[index])


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images of the digits ``[N, 8, 8]`` and their labels ``[N]``."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - takes three seconds to import

    digits = load_digits()
    # Stored as 0 to 16.
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def _write_png(target: Path, grey: NDArray[np.uint8]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(target)


INCLUDED: Final[dict[str, Callable[[Path], None]]] = {"digits": write_digits, "digits-uneven": write_uneven_digits}
"""The named data sets that need no download."""

DATASETS: Final[dict[str, Callable[[Path], None]]] = {
    **INCLUDED,
    **{name: partial(torchvision_sets.write_named_set, name=name) for name in torchvision_sets.TORCHVISION_SETS},
}
"""Named data sets; each function writes the files below a folder, as CLASS/FILE or as SPLIT/CLASS/FILE."""
