"""The steps of the harness that are measured, each in a process of its own."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imgcls.config import SplitConfig
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.auditing.duplicates import near_groups
from imgcls.data.decode import Resize, decode
from imgcls.data.groups import grouped
from imgcls.data.sources.file_names import file_of
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.registry import load_dataset
from imgcls.data.splits import make_splits
from imgcls.data.stores.pixels import build_cache
from imgcls.parallel import map_chunks
from tests.growth.commands import OF_PREDICTIONS, OF_RECORDS
from tests.growth.photos import alike, write_photos
from tests.growth.records import write_large_test_split, write_records

RESIZE: Final = Resize(size=32, interpolation="bilinear")


def _dataset(home: Path) -> Dataset:
    return load_dataset(str(home / "photos"))


def _audit(home: Path) -> Audit:
    return audit_dataset(_dataset(home), cache=home / "cache")


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def listing(home: Path, _count: int) -> float:
    """List the files."""
    return _timed(lambda: _dataset(home))


def _decode_all(paths: list[Path]) -> None:
    for path in paths:
        decode(path)


def decoding(home: Path, _count: int) -> float:
    """Decode every file on all cores, and do nothing else: the floor of an audit."""
    dataset = _dataset(home)
    paths = [file_of(dataset.root, file) for file in dataset.files]
    return _timed(lambda: map_chunks(_decode_all, paths, cost_bytes=10**9))


def auditing(home: Path, _count: int) -> float:
    """Audit all files."""
    dataset = _dataset(home)
    return _timed(lambda: audit_dataset(dataset, cache=home / "cache"))


def reading(home: Path, _count: int) -> float:
    """Read the stored audit, after a look at every file."""
    dataset = _dataset(home)
    return _timed(lambda: audit_dataset(dataset, cache=home / "cache"))


def splitting(home: Path, _count: int) -> float:
    """Divide the images into train, val and test."""
    audit = _audit(home)
    return _timed(lambda: make_splits(audit))


def folding(home: Path, _count: int) -> float:
    """Group the images by a part of their names, and deal the groups into five folds."""
    audit = _audit(home)
    config = SplitConfig(group_by=r"(\d{6})\d\.jpg", folds=5, fold=0)
    return _timed(lambda: make_splits(grouped(audit, None), config))


def looking_alike(_home: Path, count: int) -> float:
    """Group near-duplicates: a tenth of the images is one flat colour, another tenth one camera's frames."""
    hashes, thumbnails = alike(count)
    return _timed(lambda: near_groups(hashes, thumbnails, largest=count // 100))


def storing(home: Path, _count: int) -> float:
    """Store the pixels at 32 px."""
    dataset, audit = _dataset(home), _audit(home)
    return _timed(lambda: build_cache(audit, RESIZE, root=dataset.root, cache=home / "cache"))


def training(home: Path, _count: int) -> float:
    """Train a tiny network for an epoch on 80 % of the images, from pixels that are stored at 32 px."""
    from tests.growth.training import epoch_s

    return epoch_s(home, "pixels", size=RESIZE.size)


def training_from_files(home: Path, _count: int) -> float:
    """Train it from the files, which are decoded in the pass."""
    from tests.growth.training import epoch_s

    return epoch_s(home, "files", size=RESIZE.size)


def evaluating(home: Path, _count: int) -> float:
    """Predict 10 % of the images with it, from stored pixels."""
    from tests.growth.training import evaluation_s

    return evaluation_s(home, size=RESIZE.size)


STAGES: Final[dict[str, Callable[[Path, int], float]]] = {
    "list": listing,
    "decode": decoding,
    "audit": auditing,
    "read": reading,
    "split": splitting,
    "folds": folding,
    "near": looking_alike,
    "store": storing,
    "train": training,
    "train-files": training_from_files,
    "evaluate": evaluating,
}
"""Steps by name, in their order: later ones read what earlier ones have written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What grows: its unit, the folder that the steps read, the numbers, what writes the folder, and the steps."""

    unit: str
    folder: str
    counts: tuple[int, ...]
    write: Callable[[Path, int], object]
    stages: Mapping[str, Callable[[Path, int], float]]


IMAGES: Final = (10_000, 100_000, 1_000_000)

RECORDS: Final = (100, 1_000, 10_000)

KINDS: Final = {
    "photos": Kind(unit="images", folder="photos", counts=IMAGES, write=write_photos, stages=STAGES),
    "records": Kind(unit="records", folder="results", counts=RECORDS, write=write_records, stages=OF_RECORDS),
    "predictions": Kind(
        unit="test images", folder="results", counts=IMAGES, write=write_large_test_split, stages=OF_PREDICTIONS
    ),
}

EVERY: Final = {name: step for kind in KINDS.values() for name, step in kind.stages.items()}
"""All steps by name."""


if __name__ == "__main__":
    stage, home, count = sys.argv[1:]
    print(EVERY[stage](Path(home), int(count)))  # noqa: T201 - read by ``measure``
