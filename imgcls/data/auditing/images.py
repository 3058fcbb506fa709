"""The usable images of a data set as columns, so that a million of them are a few arrays, and their Parquet file."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from imgcls.config import SPLITS
from imgcls.errors import DataError
from imgcls.files import read_regular, write_aside

Text = NDArray[Any]
"""Text of each image, ``[N]``, of numpy's ``StringDType``."""

NO_SPLIT: Final = -1
DIGEST: Final = "S32"
"""Digests of pixels are 32 hexadecimal digits."""
COLUMNS: Final = ("image_id", "label", "split", "pixel_digest", "group", "notes", "own_path")
VALUE: Final = "value:"
"""Start of the names of Parquet columns that hold the values of a table's further columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditedImage:
    """A usable image. Images with the same ``group`` are duplicates of each other and must stay in one split."""

    image_id: str
    label: int
    split: str | None
    pixel_digest: str
    group: int
    notes: tuple[str, ...]
    values: tuple[str, ...] = ()
    """Its values of the audit's ``columns``."""
    own_path: str | None = None
    """Its path as the file system spells it, if that differs from the id."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Images(Sequence[AuditedImage]):
    """The usable images of a data set, sorted by id; each field but ``note_sets`` has one entry per image.

    An image by its position is an ``AuditedImage``, made when it is asked for: loops over a million are slow, and
    should read the columns.
    """

    ids: Text
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    """Positions in ``SPLITS``, or ``NO_SPLIT``."""
    pixel_digests: NDArray[np.bytes_]
    groups: NDArray[np.int64]
    notes: NDArray[np.int32]
    """Positions in ``note_sets``."""
    note_sets: tuple[tuple[str, ...], ...] = ((),)
    """The sets of notes that occur."""
    values: tuple[Text, ...] = ()
    """The values of each of the audit's ``columns``."""
    own_paths: Text
    """Empty where a path is as the id."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> AuditedImage: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[AuditedImage, ...]: ...

    def __getitem__(self, index: int | slice) -> AuditedImage | tuple[AuditedImage, ...]:
        """Return an image, or several."""
        if isinstance(index, slice):
            return tuple(self[row] for row in range(*index.indices(len(self))))
        split = int(self.splits[index])
        return AuditedImage(
            image_id=self.ids[index],
            label=int(self.labels[index]),
            split=None if split == NO_SPLIT else SPLITS[split],
            pixel_digest=self.pixel_digests[index].decode(),
            group=int(self.groups[index]),
            notes=self.note_sets[self.notes[index]],
            values=tuple(column[index] for column in self.values),
            own_path=self.own_paths[index] or None,
        )

    def __iter__(self) -> Iterator[AuditedImage]:
        """Yield every image."""
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Return whether all images are equal."""
        return isinstance(other, Images) and len(self) == len(other) and all(map(AuditedImage.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def with_groups(self, groups: NDArray[np.int64]) -> "Images":
        """Return the same images in other groups, ``[N]``."""
        return replace(self, groups=groups)

    @classmethod
    def of(cls, rows: Iterable[AuditedImage]) -> "Images":
        """Return the columns of images."""
        rows = tuple(rows)
        positions: dict[tuple[str, ...], int] = {(): 0}
        return cls(
            ids=texts(row.image_id for row in rows),
            labels=np.array([row.label for row in rows], dtype=np.int64),
            splits=split_numbers(row.split for row in rows),
            pixel_digests=np.array([row.pixel_digest.encode() for row in rows], dtype=DIGEST),
            groups=np.array([row.group for row in rows], dtype=np.int64),
            notes=np.array([positions.setdefault(row.notes, len(positions)) for row in rows], dtype=np.int32),
            note_sets=tuple(positions),
            values=tuple(map(texts, zip(*(row.values for row in rows), strict=True))),
            own_paths=texts(row.own_path or "" for row in rows),
        )


def texts(values: Iterable[str]) -> Text:
    """Return text as an array, without a Python object for each."""
    return np.array(list(values), dtype=np.dtypes.StringDType())


def split_numbers(splits: Iterable[str | None]) -> NDArray[np.int8]:
    """Return the positions of splits in ``SPLITS``, ``NO_SPLIT`` for None."""
    numbers = {None: NO_SPLIT} | {split: number for number, split in enumerate(SPLITS)}
    return np.array([numbers[split] for split in splits], dtype=np.int8)


def write_images(images: Images, path: Path, *, columns: Sequence[str]) -> None:
    """Write images as Parquet, atomically; ``columns`` names ``Images.values``."""
    import pyarrow as pa  # noqa: PLC0415 - a quarter of a second, which commands that read no audit need not pay
    from pyarrow import parquet  # noqa: PLC0415

    names = (None, *SPLITS)
    table = {
        "image_id": images.ids.tolist(),
        "label": images.labels,
        "split": pa.array([names[split + 1] for split in images.splits.tolist()], pa.string()),
        "pixel_digest": images.pixel_digests.astype("U").tolist(),
        "group": images.groups,
        "notes": pa.array([images.note_sets[number] for number in images.notes.tolist()], pa.list_(pa.string())),
        "own_path": pa.array([path or None for path in images.own_paths.tolist()], pa.string()),
        **{f"{VALUE}{name}": column.tolist() for name, column in zip(columns, images.values, strict=True)},
    }
    write_aside(path, lambda aside: parquet.write_table(pa.table(table), aside))


def read_images(path: Path, *, columns: Sequence[str], sha256: str) -> Images:
    """Read what ``write_images`` has written; raises DataError if the file is missing, or not the one of that hash."""
    from pyarrow import BufferReader, parquet  # noqa: PLC0415 - see ``write_images``

    try:
        data = read_regular(path)
    except OSError as error:
        message = f"{path.name}: the table of images cannot be read ({error.strerror})"
        raise DataError(message) from error
    # Arrow may crash on a damaged file, and read another one whose checksums of pages agree.
    if hashlib.sha256(data).hexdigest() != sha256:
        message = f"{path.name}: the table of images is damaged, or of another audit"
        raise DataError(message)
    table = parquet.read_table(BufferReader(data))
    cells = {name: table.column(name) for name in (*COLUMNS, *(f"{VALUE}{name}" for name in columns))}
    positions: dict[tuple[str, ...], int] = {(): 0}
    notes = [positions.setdefault(tuple(notes), len(positions)) for notes in cells["notes"].to_pylist()]
    return Images(
        ids=texts(cells["image_id"].to_pylist()),
        labels=cells["label"].to_numpy(),
        splits=split_numbers(cells["split"].to_pylist()),
        pixel_digests=np.array(cells["pixel_digest"].to_pylist(), dtype=DIGEST),
        groups=cells["group"].to_numpy(),
        notes=np.array(notes, dtype=np.int32),
        note_sets=tuple(positions),
        values=tuple(texts(cells[f"{VALUE}{name}"].to_pylist()) for name in columns),
        own_paths=texts(path or "" for path in cells["own_path"].to_pylist()),
    )
