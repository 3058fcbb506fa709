"""Where this machine has the images of finished runs, and what their audit found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from bench import progress
from bench.records.paths import Paths, Pictures
from bench.records.schema import RunRecord
from bench.records.store import write_json
from bench.runs.plan import Task
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.cache import build_cache, cache_path
from imgcls.data.decode import Resize
from imgcls.data.sources.named import load_dataset
from imgcls.data.splits import make_splits
from imgcls.errors import DataError, UserError

PLACE: Final = "place.json"
"""Beside the artifacts, never in a record: where this machine has the images of a training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Images:
    """An audited data set and its folder, which holds the very images of a run."""

    audit: Audit
    root: Path


def find_images(record: RunRecord, paths: Paths, console: Console) -> Images | str:
    """Find the images that a run was made of, or say why not."""
    try:
        place = (paths.artifacts(record.train_id) / PLACE).read_bytes()
        dataset = load_dataset(msgspec.json.decode(place, type=dict[str, str])["data"], cache=paths.cache)
        with progress.counting(console, f"auditing {dataset.name}") as advance:
            audit = audit_dataset(dataset, cache=paths.cache, progress=advance)
    except (OSError, msgspec.MsgspecError, KeyError):
        return f"where the images of {record.dataset.name} are is not known here; the run-all that made it tells"
    except UserError as error:
        return f"the images of {record.dataset.name} are not as they were: {error}"
    if audit.digest != record.dataset.digest:
        return f"the images of {record.dataset.name} are not as they were: digest {audit.digest}"
    return Images(audit=audit, root=dataset.root)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A run's images: in the cache, and the test images as files."""

    pictures: Pictures
    test_files: tuple[str, ...]


def remember_place(task: Task) -> None:
    """Keep where the images of a task are, beside its artifacts."""
    folder, place = task.paths.artifacts(task.train_id), Path(task.data).expanduser()
    if folder.is_dir():
        write_json({"data": str(place.resolve()) if place.is_dir() else task.data}, folder / PLACE)


def find_pictures(record: RunRecord, paths: Paths, console: Console) -> Found | str:
    """Find the very images and split of a run, or say why not."""
    found = find_images(record, paths, console)
    if isinstance(found, str):
        return found
    try:
        return _found(record, found.audit, found.root, paths, console)
    except UserError as error:
        return f"the images of {record.dataset.name} are not as they were: {error}"


def _found(record: RunRecord, audit: Audit, root: Path, paths: Paths, console: Console) -> Found:
    splits = make_splits(audit, record.config.split)
    if (audit.digest, splits.digest) != (record.dataset.digest, record.dataset.split_digest):
        message = f"digest {audit.digest}, the run had {record.dataset.digest}"
        raise DataError(message)
    assert record.outcome is not None
    model = record.outcome.model
    resize = Resize(size=model.image_size, interpolation=model.interpolation, crop_pct=model.crop_pct)
    with progress.counting(console, f"caching {resize.size} px") as advance:
        build_cache(audit, resize, root=root, cache=paths.cache, progress=advance)
    return Found(
        pictures=Pictures(
            pixels=str(cache_path(audit, resize, cache=paths.cache)),
            train_rows=splits.train,
            test_rows=splits.test,
            split_digest=splits.digest,
        ),
        test_files=tuple(str(root / audit.images[row].image_id) for row in splits.test),
    )
