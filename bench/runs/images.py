"""The images of finished runs on this machine, found again for parity, calibration, timing and galleries."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench import progress
from bench.records.paths import Paths, Pictures
from bench.records.schema import RunRecord
from bench.records.store import write_json
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.cache import build_cache, cache_path
from imgcls.data.decode import Resize
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.named import load_dataset
from imgcls.data.splits import make_splits
from imgcls.errors import RunError, UserError

if TYPE_CHECKING:
    from bench.runs.plan import Task  # imports torch, which a command that only reads must not

PLACE: Final = "place.json"
"""Beside the artifacts, never in a record: where this machine has the images of a training."""


class MissingImagesError(RunError):
    """The images of a run are not on this machine, or not as they were."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSource:
    """An audited data set and its folder, which holds the very images of a run."""

    audit: Audit
    root: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class RunImages:
    """A run's images: in the cache, and the test images as files."""

    pictures: Pictures
    test_files: tuple[str, ...]


def remember_place(task: "Task") -> None:
    """Keep where the images of a task are, beside its artifacts."""
    folder, place = task.paths.artifacts(task.train_id), Path(task.data).expanduser()
    if folder.is_dir():
        write_json({"data": str(place.resolve()) if place.is_dir() else task.data}, folder / PLACE)


def audited(data: str, cache: Path) -> tuple[Dataset, Audit]:
    """List and audit a data set, or read its audit back; logs how far it is."""
    dataset = load_dataset(data, cache=cache)
    count = progress.counting(f"auditing {dataset.name}")
    return dataset, audit_dataset(dataset, cache=cache, progress=count)


def find_source(record: RunRecord, paths: Paths) -> ImageSource:
    """Return the data set that a run was made of; raises MissingImagesError with the reason why it cannot be found."""
    name = record.dataset.name
    try:
        place = (paths.artifacts(record.train_id) / PLACE).read_bytes()
        dataset, audit = audited(msgspec.json.decode(place, type=dict[str, str])["data"], paths.cache)
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        message = f"where the images of {name} are is not known here; the run-all that made the run notes it"
        raise MissingImagesError(message) from error
    except UserError as error:
        message = f"the images of {name} are not as they were: {error}"
        raise MissingImagesError(message) from error
    if audit.digest != record.dataset.digest:
        message = f"the images of {name} are not as they were: digest {audit.digest}"
        raise MissingImagesError(message)
    return ImageSource(audit=audit, root=dataset.root)


def find_images(record: RunRecord, paths: Paths) -> RunImages:
    """Return the very images and split of a run; raises MissingImagesError."""
    source = find_source(record, paths)
    splits = make_splits(source.audit, record.config.split)
    if splits.digest != record.dataset.split_digest:
        message = f"the split of {record.dataset.name} is not as it was: digest {splits.digest}"
        raise MissingImagesError(message)
    assert record.outcome is not None
    model = record.outcome.model
    resize = Resize(size=model.image_size, interpolation=model.interpolation, crop_pct=model.crop_pct)
    count = progress.counting(f"caching {resize.size} px")
    build_cache(source.audit, resize, root=source.root, cache=paths.cache, progress=count)
    return RunImages(
        pictures=Pictures(
            pixels=str(cache_path(source.audit, resize, cache=paths.cache)),
            train_rows=splits.train,
            test_rows=splits.test,
            split_digest=splits.digest,
        ),
        test_files=tuple(str(source.root / source.audit.images[row].image_id) for row in splits.test),
    )
