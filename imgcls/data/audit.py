"""Audit of a data set: decode every file once, and list usable images, removed files and duplicates."""

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec
import numpy as np
import PIL
from filelock import FileLock
from numpy.typing import NDArray

from imgcls.data.auditing.duplicates import (
    MANY,
    MAX_GROUP_SHARE,
    first_of_each,
    members_of,
    near_groups,
    pairs_of,
)
from imgcls.data.auditing.images import (
    AuditedImage,
    Images,
    read_images,
    split_numbers,
    texts,
    write_images,
)
from imgcls.data.auditing.inspection import Inspected, inspect
from imgcls.data.decode import DECODE_VERSION
from imgcls.data.sources.folder import Dataset, Removal
from imgcls.data.sources.version import version_of
from imgcls.errors import DataError
from imgcls.files import default_cache, json_list, read_regular, remove_abandoned, write_text
from imgcls.messages import Message, Part, Setting
from imgcls.parallel import OnProgress, silent

LOGGER = logging.getLogger(__name__)

AUDIT_VERSION: Final = 2
"""Incremented if the audit of unchanged files has a different result, so that stored audits are not reused."""
MANY_VERSION: Final = 3
"""The same of sets that are so large that their near-duplicates are searched in another way."""
NAMES_SHOWN: Final = 5
IMAGES_SHA256: Final = "images_sha256"
"""Key of the hash of the table of images."""
CONFLICT: Final = "same pixels under two labels"


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Result of an audit; ``digest`` is a hash of class names, image ids, labels, splits and decoded pixels."""

    name: str
    digest: str
    class_names: tuple[str, ...]
    given_splits: bool
    images: Images
    removed: tuple[Removal, ...]
    exact_duplicates: tuple[tuple[str, ...], ...]
    near_duplicates: tuple[tuple[str, ...], ...]
    near_conflicts: tuple[tuple[str, ...], ...]
    """Near-duplicates with different labels: kept in one split, and reported."""
    across_splits: tuple[tuple[str, ...], ...]
    """Duplicates that lie in more than one of the given train, val and test folders."""
    broken_groups: int
    """Number of chains of near-duplicates over 1 % of the set, which were divided into groups of confirmed pairs."""
    too_small_to_search: int
    """Number of images whose shorter side is under 32 px, for which perceptual hashes are not reliable."""
    empty_folders: tuple[str, ...] = ()
    """Class folders without files."""
    columns: tuple[str, ...] = ()
    """Further columns of the table of labels."""

    def __str__(self) -> str:
        """Return the summary as text."""
        return str(self.summary())

    def summary(self) -> Message:
        """Return a summary for people, one line or a few."""
        share = len(self.removed) / (len(self.images) + len(self.removed))
        first = (
            f"{self.name}: {len(self.images):,} usable images in {len(self.class_names)} classes; "
            f"{len(self.removed)} skipped ({100 * share:.2f} %); {len(self.exact_duplicates)} groups of exact and "
            f"{len(self.near_duplicates)} of near-duplicates"
        )
        parts: list[Part] = [first]
        similar = sum(map(len, self.near_duplicates))
        if 2 * similar > len(self.images):
            parts.append(f"\n{similar:,} of {len(self.images):,} images are near-duplicates of another")
            parts += ["; for frames of one scene consider ", Setting("group_by")]
            parts += [", for different objects under a fixed camera ", Setting("near_duplicates", "keep")]
        if self.broken_groups:
            parts.append(
                f"\n{self.broken_groups} chain(s) of near-duplicates over 1 % of the set were divided into groups of "
                "confirmed pairs"
            )
        if self.too_small_to_search:
            parts.append(f"\n{self.too_small_to_search:,} image(s) under 32 px were not searched for near-duplicates")
        if self.empty_folders:
            names = ", ".join(self.empty_folders[:NAMES_SHOWN])
            more = f" and {len(self.empty_folders) - NAMES_SHOWN} more" if len(self.empty_folders) > NAMES_SHOWN else ""
            parts.append(f"\nclass folders without files, ignored: {names}{more}")
        return Message(tuple(parts))


def audit_dataset(
    dataset: Dataset, *, cache: Path | None = None, progress: OnProgress = silent, verify: bool = False
) -> Audit:
    """Audit a data set, or read the stored audit of this version of it from ``cache``.

    A version is identified by ``version_of``: with ``verify`` by all bytes of the files. Processes that need the same
    audit make it once; one that was killed goes on where the last part was stored. Raises DataError if no image is
    usable.
    """
    folder = (cache or default_cache()) / "audits"
    stored = _stored(folder, dataset, verify=verify)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(stored.with_suffix(".lock")):
        # The version does not include the data set's name, which may differ from that of the stored audit.
        audit = _reuse(stored)
        if audit is None:
            remove_abandoned(folder)
            parts = stored.with_suffix(".parts")
            audit = _summarise(dataset, inspect(dataset.root, dataset.files, folder=parts, progress=progress))
            write_audit(audit, stored)
            shutil.rmtree(parts, ignore_errors=True)
    if verify:
        # What is found from now on without ``verify``, for example by the processes of the runs.
        write_audit(audit, _stored(folder, dataset, verify=False))
    return replace(audit, name=dataset.name)


def _stored(folder: Path, dataset: Dataset, *, verify: bool) -> Path:
    # Pillow's version is included because its decoders may yield different pixels.
    version = AUDIT_VERSION if len(dataset.files) <= MANY else MANY_VERSION
    key = f"{version} {DECODE_VERSION} {PIL.__version__} {version_of(dataset, verify=verify)}"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _reuse(stored: Path) -> Audit | None:
    """Return a stored audit, or None if there is none, or if it is damaged."""
    if not stored.exists():
        return None
    try:
        return read_audit(stored)
    except DataError as error:
        LOGGER.warning("the stored audit is made again: %s", error)
        return None


def write_audit(audit: Audit, path: Path) -> None:
    """Write an audit: its summary as JSON, one key a line, and beside it the table of usable images as Parquet.

    Paths are relative to the data set's root. The summary is written last: if it is there, so is the table.
    """
    write_images(audit.images, path.with_suffix(".parquet"), columns=audit.columns)
    fields = {field.name: getattr(audit, field.name) for field in dataclasses.fields(audit)}
    digest = hashlib.sha256(path.with_suffix(".parquet").read_bytes()).hexdigest()
    summary = msgspec.to_builtins(fields | {"images": len(audit.images), IMAGES_SHA256: digest})
    lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in summary.items())
    write_text("{\n" + ",\n".join(lines) + "\n}\n", path)


def read_audit(path: Path) -> Audit:
    """Read an audit; raises DataError if a file is missing or damaged, or if the two do not belong together.

    Also reads those of earlier versions, whose images are in the JSON file.
    """
    try:
        fields = msgspec.json.decode(read_regular(path), type=dict[str, Any])
        sha256 = fields.pop(IMAGES_SHA256, None)
        if sha256 is None:
            fields["images"] = Images.of(msgspec.convert(fields["images"], list[AuditedImage]))
        else:
            table = path.with_suffix(".parquet")
            fields["images"] = read_images(table, columns=fields["columns"], sha256=sha256)
        types = get_type_hints(Audit) | {"images": Any}
        return Audit(**{name: msgspec.convert(value, types[name]) for name, value in fields.items()})
    except (OSError, msgspec.MsgspecError, KeyError, TypeError) as error:
        message = f"{path.name}: not an audit that can be read ({error})"
        raise DataError(message) from error


def _summarise(dataset: Dataset, seen: Inspected) -> Audit:
    labels = np.array([file.label for file in dataset.files], dtype=np.int64)
    readable = np.ones(len(labels), dtype=bool)
    readable[list(seen.errors)] = False
    files = np.flatnonzero(readable)
    exact = [files[group].tolist() for group in members_of(seen.pixel_digests[files])]
    # One of the labels is wrong, but it is not known which: none of these files is used.
    conflicting = [index for group in exact if len({*labels[group].tolist()}) > 1 for index in group]
    readable[conflicting] = False
    usable = np.flatnonzero(readable)
    if not len(usable):
        message = (
            f"no usable image in {dataset.name}: all {len(labels)} files are unreadable or have conflicting labels"
        )
        raise DataError(message)
    exact = [group for group in exact if readable[group[0]]]
    near, broken = _near_groups(seen, usable)
    group_of = first_of_each(len(labels), pairs_of(exact + near))
    splits = split_numbers(file.split for file in dataset.files)
    images = _images(dataset, seen, usable, group_of)

    def ids(groups: Iterable[list[int]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(dataset.files[index].image_id for index in group) for group in groups)

    return Audit(
        name=dataset.name,
        digest=_content_digest(dataset, images),
        class_names=dataset.class_names,
        given_splits=dataset.given_splits,
        images=images,
        removed=_removals(dataset, seen.errors | dict.fromkeys(conflicting, CONFLICT)),
        exact_duplicates=ids(exact),
        near_duplicates=ids(near),
        near_conflicts=ids(group for group in near if len({*labels[group].tolist()}) > 1),
        across_splits=ids(group for group in members_of(group_of) if len({*splits[group].tolist()}) > 1),
        broken_groups=broken,
        too_small_to_search=int((~seen.searched[usable]).sum()),
        empty_folders=dataset.empty_folders,
        columns=dataset.columns,
    )


def _images(dataset: Dataset, seen: Inspected, usable: NDArray[np.int64], group_of: NDArray[np.int64]) -> Images:
    files = [dataset.files[index] for index in usable.tolist()]
    positions: dict[tuple[str, ...], int] = {(): 0}
    notes = [positions.setdefault(seen.notes.get(index, ()), len(positions)) for index in usable.tolist()]
    return Images(
        ids=texts(file.image_id for file in files),
        labels=np.array([file.label for file in files], dtype=np.int64),
        splits=split_numbers(file.split for file in files),
        pixel_digests=seen.pixel_digests[usable],
        groups=group_of[usable],
        notes=np.array(notes, dtype=np.int32),
        note_sets=tuple(positions),
        values=tuple(texts(file.values[column] for file in files) for column in range(len(dataset.columns))),
        own_paths=texts(file.own_path or "" for file in files),
    )


def _removals(dataset: Dataset, reasons: dict[int, str]) -> tuple[Removal, ...]:
    removals = (
        Removal(image_id=dataset.files[index].image_id, label=dataset.files[index].label, reason=reason)
        for index, reason in sorted(reasons.items())
    )
    return (*dataset.rejected, *removals)


def _near_groups(seen: Inspected, usable: NDArray[np.int64]) -> tuple[list[list[int]], int]:
    """Group near-duplicates, of exact copies only the first, and count the chains that were divided."""
    _, first = np.unique(seen.pixel_digests[usable], return_index=True)
    different = usable[np.sort(first)]
    searched = different[seen.searched[different]]
    if not len(searched):
        return [], 0
    largest = int(MAX_GROUP_SHARE * len(seen.hashes))
    groups, broken = near_groups(seen.hashes[searched], seen.thumbnails[searched], largest=largest)
    return [searched[group].tolist() for group in groups], broken


def _content_digest(dataset: Dataset, images: Images) -> str:
    # Without sizes and modification times, so that a copy on another machine has the same digest.
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    for image in images:
        digest.update(json.dumps([image.image_id, image.label, image.split, image.pixel_digest]).encode())
    if dataset.columns:
        digest.update(b"[" + json.dumps(dataset.columns).encode() + b", ")
        for text in json_list(image.values for image in images):
            digest.update(text)
        digest.update(b"]")
    return digest.hexdigest()[:16]
