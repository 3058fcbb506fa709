"""Access to the images of finished runs on this machine, for parity checks, calibration, timing and galleries."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bench import progress
from bench.records.paths import PLACE, Paths, Pictures
from bench.records.schema import RunRecord
from bench.records.store import write_json
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.decode import Resize
from imgcls.data.sources.file_names import ESCAPED, escape, unescape
from imgcls.data.sources.folder import Dataset
from imgcls.data.sources.locations import absolute
from imgcls.data.sources.registry import INCLUDED, load_dataset
from imgcls.data.splits import Splits, make_splits
from imgcls.data.stores.choice import names_of
from imgcls.data.stores.pixels import cache_path
from imgcls.errors import RunError, UserError

if TYPE_CHECKING:
    from bench.runs.plan import Task  # loads torch, which commands that only read records must not


class MissingImagesError(RunError):
    """The images of a run are not on this machine, or have changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSource:
    """An audited data set with exactly the images of a run, and its folder."""

    audit: Audit
    root: Path
    own_paths: Mapping[str, str]
    """Paths as the file system spells them, by id, where they differ from it."""

    def file(self, image_id: str) -> Path:
        """Return the file of an image of the audit, or of one that the audit skipped."""
        return self.root / unescape(self.own_paths.get(image_id, image_id))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunImages:
    """The images of a run: their pixels in the cache, and the paths of the test images."""

    pictures: Pictures
    test_files: tuple[str, ...]


def remember_place(task: "Task") -> None:
    """Write the location of a task's images beside its artifacts."""
    folder = task.paths.artifacts(task.train_id)
    # A failed run may have no artifacts.
    if folder.is_dir():
        # Absolute, because another command may run in another working directory; the name of a data set as it is.
        named = {"data": task.data, "labels": task.labels}
        write_json({key: absolute(text) for key, text in named.items() if text is not None}, folder / PLACE)


def audited(data: str, cache: Path, *, labels: str | None = None, verify: bool = False) -> tuple[Dataset, Audit]:
    """Return a data set and its audit, which is read if it is stored; the progress of an audit is logged.

    With ``verify`` a stored audit is found by all bytes of the files.
    """
    dataset = load_dataset(data, labels=labels, cache=cache)
    count = progress.counting(f"auditing {dataset.name}")
    return dataset, audit_dataset(dataset, cache=cache, progress=count, verify=verify)


def find_source(record: RunRecord, paths: Paths) -> ImageSource:
    """Return the data set of a run; raises MissingImagesError with the reason if it is missing or has changed."""
    name = record.dataset.name
    try:
        location = _place(record, paths)
        dataset, audit = audited(location["data"], paths.cache, labels=location.get("labels"))
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        message = f"the location of the images of {name} is not known here; the command that trains a run stores it"
        raise MissingImagesError(message) from error
    except UserError as error:
        message = f"the images of {name} are not available: {error}"
        raise MissingImagesError(message) from error
    if audit.digest != record.dataset.digest:
        message = f"the images of {name} have changed since the run: digest {audit.digest}"
        raise MissingImagesError(message)
    own_paths = {file.image_id: file.own_path for file in dataset.files if file.own_path is not None}
    return ImageSource(audit=audit, root=dataset.root, own_paths=own_paths)


def _place(record: RunRecord, paths: Paths) -> dict[str, str]:
    stored = paths.artifacts(record.train_id) / PLACE
    # These are on every machine, also where the artifacts of a published record are not.
    if not stored.exists() and record.dataset.name in INCLUDED:
        return {"data": record.dataset.name}
    location = msgspec.json.decode(stored.read_bytes(), type=dict[str, str])
    return {key: unescape(text) for key, text in location.items()}


def find_images(record: RunRecord, paths: Paths) -> RunImages:
    """Return the images and the split of a run; raises MissingImagesError if they are missing or have changed."""
    source = find_source(record, paths)
    # Divided again, because a record contains the digest of its split only.
    splits = make_splits(source.audit, record.config.split)
    if splits.digest != record.dataset.split_digest:
        message = f"the split of {record.dataset.name} has changed since the run: digest {splits.digest}"
        raise MissingImagesError(message)
    model = record.finished.model
    resize = Resize(size=model.image_size, interpolation=model.interpolation, crop_pct=model.crop_pct)
    ids = source.audit.images.ids[list(splits.test)].tolist()
    return RunImages(
        pictures=_pictures(source, splits, resize, paths.cache),
        # Other names cannot be written into a task.
        test_files=tuple(str(source.file(image_id)) for image_id in ids if not image_id.startswith(ESCAPED)),
    )


def _pictures(source: ImageSource, splits: Splits, resize: Resize, cache: Path) -> Pictures:
    stored, digest = cache_path(source.audit, resize, cache=cache), splits.digest
    if stored.exists():
        return Pictures(
            pixels=str(stored), resize=resize, train_rows=splits.train, test_rows=splits.test, split_digest=digest
        )
    from imgcls.inference.quantisation import calibration_rows  # noqa: PLC0415 - loads onnx, which a report need not

    # Nothing is stored for a few checks: the test images are decoded, and those that calibrate int8.
    test, calibrating = np.array(splits.test), calibration_rows(np.array(splits.train))
    names = names_of(source.audit)[np.concatenate([test, calibrating])].tolist()
    return Pictures(
        pixels=None,
        resize=resize,
        root=escape(str(source.root)),
        names=tuple(names),
        test_rows=tuple(range(len(test))),
        train_rows=tuple(range(len(test), len(names))),
        split_digest=digest,
    )
