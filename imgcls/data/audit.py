"""Audit of a data set: decode every file once, and list usable images, removed files and duplicates."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import imagehash
import msgspec
import numpy as np
import PIL
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

from imgcls.data.decode import DECODE_VERSION, LOW_RESOLUTION_PX, UndecodableError, decode, quiet_libraries
from imgcls.data.duplicates import MAX_GROUP_SHARE, near_groups
from imgcls.data.sources.file_names import file_of
from imgcls.data.sources.folder import Dataset, Removal
from imgcls.data.sources.version import version_of
from imgcls.errors import DataError
from imgcls.files import default_cache, remove_abandoned, write_text
from imgcls.messages import Message, Part, Setting
from imgcls.parallel import OnProgress, map_chunks, silent

AUDIT_VERSION: Final = 2
"""Incremented if the audit of unchanged files has a different result, so that stored audits are not reused."""
THUMBNAIL_PX: Final = 16
NAMES_SHOWN: Final = 5
CONFLICT: Final = "same pixels under two labels"
CRASHED: Final = "unreadable: the decoder killed its process"


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Result of an audit; ``digest`` is a hash of class names, image ids, labels, splits and decoded pixels."""

    name: str
    digest: str
    class_names: tuple[str, ...]
    given_splits: bool
    images: tuple[AuditedImage, ...]
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Audit data of one file: properties of its decoded image, or the reason why it is unusable."""

    pixel_digest: str = ""
    phash: int | None = None
    thumbnail: bytes = b""
    notes: tuple[str, ...] = ()
    error: str | None = None


def audit_dataset(
    dataset: Dataset, *, cache: Path | None = None, progress: OnProgress = silent, verify: bool = False
) -> Audit:
    """Audit a data set, or read the stored audit of this version of it from ``cache``.

    A version is identified by ``version_of``: with ``verify`` by all bytes of the files. Raises DataError if no image
    is usable.
    """
    folder = (cache or default_cache()) / "audits"
    stored = _stored(folder, dataset, verify=verify)
    if stored.exists():
        # The version does not include the data set's name, which may differ from that of the stored audit.
        audit = replace(msgspec.json.decode(stored.read_bytes(), type=Audit), name=dataset.name)
    else:
        paths = [file_of(dataset.root, file) for file in dataset.files]
        size = sum(path.stat().st_size for path in paths if path.exists())
        chunks = map_chunks(_look_at_all, paths, cost_bytes=size, progress=progress, crashed=_crashed)
        audit = _summarise(dataset, [seen for chunk in chunks for seen in chunk])
        remove_abandoned(folder)
        write_text(to_json(audit), stored)
    if verify:
        # What is found from now on without ``verify``, for example by the processes of the runs.
        write_text(to_json(audit), _stored(folder, dataset, verify=False))
    return audit


def _stored(folder: Path, dataset: Dataset, *, verify: bool) -> Path:
    # Pillow's version is included because its decoders may yield different pixels.
    key = f"{AUDIT_VERSION} {DECODE_VERSION} {PIL.__version__} {version_of(dataset, verify=verify)}"
    return folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def to_json(audit: Audit) -> str:
    """Return the audit as indented JSON text; paths are relative to the data set's root."""
    return json.dumps(msgspec.to_builtins(audit), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _look_at_all(paths: Sequence[Path]) -> list[_Seen]:
    with quiet_libraries():
        return [_look_at(path) for path in paths]


def _crashed(_path: Path) -> list[_Seen]:
    return [_Seen(error=CRASHED)]


def _look_at(path: Path) -> _Seen:
    try:
        decoded = decode(path)
    except UndecodableError as error:
        return _Seen(error=str(error))
    image = decoded.image
    # The size is hashed as well, because images of 2 x 8 and 4 x 4 pixels can have the same bytes.
    header = f"{image.width}x{image.height}:".encode()
    searched = min(image.size) >= LOW_RESOLUTION_PX
    return _Seen(
        pixel_digest=hashlib.sha256(header + image.tobytes()).hexdigest()[:32],
        phash=int(str(imagehash.phash(image)), 16) if searched else None,
        thumbnail=image.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX).tobytes() if searched else b"",
        notes=decoded.notes,
    )


def _summarise(dataset: Dataset, seen: list[_Seen]) -> Audit:
    labels = [file.label for file in dataset.files]
    exact = _exact_groups(seen)
    # One of the labels is wrong, but it is not known which: none of these files is used.
    conflicting = {index for group in exact for index in group if len({labels[i] for i in group}) > 1}
    usable = [index for index, finding in enumerate(seen) if finding.error is None and index not in conflicting]
    if not usable:
        message = f"no usable image in {dataset.name}: all {len(seen)} files are unreadable or have conflicting labels"
        raise DataError(message)
    exact = [group for group in exact if group[0] not in conflicting]
    near, broken = _near_groups(seen, usable)
    group_of = {index: group[0] for group in _merge(exact + near) for index in group}
    ids = partial(_ids, dataset)
    images = tuple(
        AuditedImage(
            image_id=dataset.files[index].image_id,
            label=labels[index],
            split=dataset.files[index].split,
            pixel_digest=seen[index].pixel_digest,
            group=group_of.get(index, index),
            notes=seen[index].notes,
            values=dataset.files[index].values,
            own_path=dataset.files[index].own_path,
        )
        for index in usable
    )
    return Audit(
        name=dataset.name,
        digest=_content_digest(dataset, images),
        class_names=dataset.class_names,
        given_splits=dataset.given_splits,
        images=images,
        removed=_removals(dataset, seen, conflicting),
        exact_duplicates=ids(exact),
        near_duplicates=ids(near),
        near_conflicts=ids(group for group in near if len({labels[i] for i in group}) > 1),
        across_splits=ids(g for g in _merge(exact + near) if len({dataset.files[i].split for i in g}) > 1),
        broken_groups=broken,
        too_small_to_search=sum(seen[index].phash is None for index in usable),
        empty_folders=dataset.empty_folders,
        columns=dataset.columns,
    )


def _ids(dataset: Dataset, groups: Iterable[list[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(dataset.files[index].image_id for index in group) for group in groups)


def _removals(dataset: Dataset, seen: list[_Seen], conflicting: set[int]) -> tuple[Removal, ...]:
    reasons = {index: finding.error for index, finding in enumerate(seen) if finding.error is not None}
    reasons.update(dict.fromkeys(conflicting, CONFLICT))
    removals = (
        Removal(image_id=dataset.files[index].image_id, label=dataset.files[index].label, reason=reason)
        for index, reason in sorted(reasons.items())
    )
    return (*dataset.rejected, *removals)


def _exact_groups(seen: list[_Seen]) -> list[list[int]]:
    by_pixels: defaultdict[str, list[int]] = defaultdict(list)
    for index, finding in enumerate(seen):
        if finding.error is None:
            by_pixels[finding.pixel_digest].append(index)
    return [group for group in by_pixels.values() if len(group) > 1]


def _near_groups(seen: list[_Seen], usable: list[int]) -> tuple[list[list[int]], int]:
    """Group near-duplicates, of exact copies only the first, and count the chains that were divided.

    ``_merge`` adds the other copies.
    """
    # reversed(): of exact copies, the first one remains in the dict.
    first_of = {seen[index].pixel_digest: index for index in reversed(usable)}
    searched = sorted(index for index in first_of.values() if seen[index].phash is not None)
    if not searched:
        return [], 0
    hashes = np.array([seen[index].phash for index in searched], dtype=np.uint64)
    pixels = np.frombuffer(b"".join(seen[index].thumbnail for index in searched), dtype=np.uint8)
    thumbnails = pixels.reshape(-1, THUMBNAIL_PX, THUMBNAIL_PX, 3)
    groups, broken = near_groups(hashes, thumbnails, largest=int(MAX_GROUP_SHARE * len(seen)))
    return [[searched[index] for index in group] for group in groups], broken


def _merge(groups: list[list[int]]) -> list[list[int]]:
    """Join the groups that share a member."""
    joined = DisjointSet(index for group in groups for index in group)
    for first, *others in groups:
        for other in others:
            joined.merge(first, other)
    return sorted(sorted(members) for members in joined.subsets())


def _content_digest(dataset: Dataset, images: tuple[AuditedImage, ...]) -> str:
    # Without sizes and modification times, so that a copy on another machine has the same digest.
    digest = hashlib.sha256(json.dumps(dataset.class_names).encode())
    for image in images:
        digest.update(json.dumps([image.image_id, image.label, image.split, image.pixel_digest]).encode())
    if dataset.columns:
        digest.update(json.dumps([dataset.columns, [image.values for image in images]]).encode())
    return digest.hexdigest()[:16]
