"""Data sets of Hugging Face's library ``datasets``, an optional extra, written as images with a table of labels."""

import csv
import hashlib
import importlib.util
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from imgcls.data.sources.folder import SPLIT_OF, Dataset
from imgcls.data.sources.table import REQUIRED, SPLIT, read_table
from imgcls.errors import ConfigError, DataError
from imgcls.files import write_aside, write_once
from imgcls.hub import hub_answers
from imgcls.messages import Setting

PREFIX: Final = "hf:"
LABELS: Final = "labels.csv"
SAVED: Final = ("dataset_dict.json", "state.json")
"""Files of a folder that ``save_to_disk`` wrote; in any other folder the library looks for Parquet, CSV or images."""

Parts = Mapping[str, Any]
"""The library's ``Dataset`` of each split, by its name there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """Names of the columns of images and of class labels, and of further columns with one value per image."""

    image: str
    label: str
    others: tuple[str, ...]


def load(name: str, *, cache: Path) -> Dataset:
    """List the images of a folder of the library, or of a data set on the hub, after writing them into ``cache``.

    The images are audited as files: their bytes are written as they are. ``name`` is a folder, or a name on the hub.

    Raises ConfigError if the library is not installed; DataError if there is no such data set, if it is neither stored
    here nor can be downloaded, or if it does not have exactly one column of images and one of class labels.
    """
    if importlib.util.find_spec("datasets") is None:
        raise ConfigError(Setting("data", f"{PREFIX}{name}"), ": needs the package datasets; pip install -e '.[hf]'")
    parts = _read(name)
    columns = _columns(name, parts)
    splits = _splits(name, list(parts))
    short = (
        Path(name).expanduser().resolve().name if Path(name).expanduser().is_dir() else name.rsplit("/", maxsplit=1)[-1]
    )
    content = "".join(part._fingerprint for part in parts.values())  # noqa: SLF001 - the library documents it, but has no public name
    key = f"hf-{short}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    root = write_once(key, partial(_write, parts=parts, columns=columns, splits=splits), cache=cache)
    return read_table(root / LABELS, root=root, name=short)


def _read(name: str) -> Parts:
    """Return the splits of a data set; one that has none is called "all"."""
    import datasets  # noqa: PLC0415 - an optional package, which takes a second to import

    folder = Path(name).expanduser()
    local = folder.is_dir()
    # The library retries for half a minute. It still reads what it has stored on this machine.
    if not local and not hub_answers():
        datasets.config.HF_HUB_OFFLINE = True
    datasets.disable_progress_bars()
    # What it logs about a damaged file is in its error, too.
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        if local and any((folder / file).is_file() for file in SAVED):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(str(folder) if local else name)
    except Exception as error:  # the library has no common base of its errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            Setting("data", f"{PREFIX}{name}"), f": no data set that can be read here ({reason})"
        ) from error
    return loaded if isinstance(loaded, datasets.DatasetDict) else {"all": loaded}


def _columns(name: str, parts: Parts) -> _Columns:
    import datasets  # noqa: PLC0415

    features = next(iter(parts.values())).features
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    for what, columns in (("images (Image)", images), ("class labels (ClassLabel)", labels)):
        if len(columns) != 1:
            there = ", ".join(f"{key} ({type(kind).__name__})" for key, kind in features.items())
            reason = f": needs one column of {what}, has {len(columns)}; columns: {there}"
            raise DataError(Setting("data", f"{PREFIX}{name}"), reason)
    others = tuple(
        key
        for key, kind in features.items()
        # A table has columns of these names already.
        if isinstance(kind, datasets.Value) and key.lower() not in {*REQUIRED, SPLIT}
    )
    return _Columns(image=images[0], label=labels[0], others=others)


def _splits(name: str, library_splits: Sequence[str]) -> dict[str, str]:
    """Return our split of each split of the library; blank for a single one, which is divided here."""
    if len(library_splits) == 1:
        return {library_splits[0]: ""}
    if unknown := [split for split in library_splits if split.lower() not in SPLIT_OF]:
        reason = f": unknown split {unknown[0]!r}; known: {', '.join(SPLIT_OF)}"
        raise DataError(Setting("data", f"{PREFIX}{name}"), reason)
    return {split: SPLIT_OF[split.lower()] for split in library_splits}


def _write(folder: Path, *, parts: Parts, columns: _Columns, splits: dict[str, str]) -> None:
    def write(aside: Path) -> None:
        with aside.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow([*REQUIRED, SPLIT, *columns.others])
            for split, part in parts.items():
                (folder / split).mkdir()
                for path, row in _images(folder, split, part, columns):
                    # The library marks an image without a label by -1.
                    labelled = row[columns.label] is not None and row[columns.label] >= 0
                    label = part.features[columns.label].int2str(row[columns.label]) if labelled else ""
                    others = ["" if row[key] is None else str(row[key]) for key in columns.others]
                    table.writerow([path, label, splits[split], *others])

    write_aside(folder / LABELS, write)


def _images(folder: Path, split: str, part: Any, columns: _Columns) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - a Dataset of an optional package
    """Write the images of a split; yield the path of each, relative to ``folder``, and its row."""
    import datasets  # noqa: PLC0415

    undecoded = part.cast_column(columns.image, datasets.Image(decode=False))
    digits = len(str(len(part)))
    for number, row in enumerate(undecoded):
        cell = row[columns.image] or {}
        data = cell.get("bytes")
        if data is None and cell.get("path"):
            data = Path(cell["path"]).read_bytes()
        path = f"{split}/{number:0{digits}}{_suffix(data or b'')}"
        # A row without an image has no file, which the table reports.
        if data is not None:
            (folder / path).write_bytes(data)
        yield path, row


def _suffix(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f".{str(image.format).lower()}"
    except UnidentifiedImageError:
        return ""
