"""WebDataset's shards: tar files of images and labels, unpacked once as images with a table of labels."""

import errno
import hashlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from imgcls.data.sources.copied.patterns import PatternError, find_shards, stem_of
from imgcls.data.sources.copied.shard_labels import LABEL_ENDINGS, Label, label_of, write_table
from imgcls.data.sources.copied.tar_files import read_members
from imgcls.data.sources.file_names import escape
from imgcls.data.sources.folder import SPLIT_OF, Dataset, read_folder
from imgcls.data.sources.table import read_table
from imgcls.data.sources.version import hash_of_file
from imgcls.errors import DataError
from imgcls.files import write_once
from imgcls.messages import Setting
from imgcls.parallel import stream_chunks

LOGGER = logging.getLogger(__name__)

PREFIX: Final = "wds:"
LABELS: Final = "labels.csv"
UNPACKING: Final = 1
"""Incremented if the same shards are unpacked in another way, so that earlier copies are not used."""
IMAGES: Final = frozenset(
    {"avif", "bmp", "gif", "jfif", "jpeg", "jpg", "mpo", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"}
)
"""Endings of images; a shard may also hold arrays, masks and others, which are no part of the data set."""


NAME_ERRORS: Final = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
"""Errors that are about the name of a file, not about the disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shard:
    """What a shard holds by key, which is a path up to the first dot of the file's name."""

    name: str
    images: dict[str, str] = field(default_factory=dict)
    """The path of the image of each key below the root of all shards."""
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    """The texts of each key by their ending."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of other files by ending."""
    clashes: list[str] = field(default_factory=list)
    """Paths of images at which something else was unpacked already."""


def load(pattern: str, *, cache: Path) -> Dataset:
    """List the images of shards after unpacking them into ``cache``, with their bytes as they are.

    ``pattern`` is a file, a folder of ``.tar`` files, or a name with braces (``{000..099}``) or globs. Labels are those
    of ``.cls``, ``.json`` (``label``) or ``.txt`` beside an image; if there are none, classes are the folders of the
    images in the shards, as of a folder. An image's id is its path in its shard. Shards with different names of splits
    in their names give the split.

    Raises DataError if a shard is missing, cut short, no tar file or unsafe, or if an image has no label or no key of
    its own.
    """
    try:
        paths = find_shards(pattern)
        name = name_of(pattern)
    except PatternError as error:
        raise DataError(Setting("data", f"{PREFIX}{pattern}"), f": {error}") from error
    split_of = _splits(pattern, paths)
    versions = [[path.name, split_of[path], hash_of_file(path, whole=False).hex()] for path in paths]
    key = hashlib.sha256(json.dumps([UNPACKING, versions]).encode(errors="surrogateescape")).hexdigest()[:16]
    root = write_once(f"wds-{name}-{key}", partial(_unpack, split_of=split_of), cache=cache)
    table = root / LABELS
    return read_table(table, root=root, name=name) if table.exists() else read_folder(root, name=name)


def name_of(pattern: str) -> str:
    """Return the name of the data set of a pattern: what the names of its shards have in common."""
    return stem_of(pattern) or Path.cwd().name or "shards"


def _splits(pattern: str, paths: Sequence[Path]) -> dict[Path, str | None]:
    """Return the split of each shard, from its file name or its folder; None for all unless two splits occur."""
    split_of = {path: _split_in(path.stem) or SPLIT_OF.get(path.parent.name.lower()) for path in paths}
    if len(set(split_of.values()) - {None}) < 2:  # noqa: PLR2004 - of one split there is nothing to divide
        return dict.fromkeys(paths)
    if unknown := [path.name for path, split in split_of.items() if split is None]:
        reason = f": the names of some shards have a split and {unknown[0]} has none"
        raise DataError(Setting("data", f"{PREFIX}{pattern}"), reason)
    return split_of


def _split_in(name: str) -> str | None:
    splits = {SPLIT_OF[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def _unpack(folder: Path, *, split_of: Mapping[Path, str | None]) -> None:
    """Write the images of shards below ``folder``, and a table of their labels if they have any."""

    def unpack(shards: Sequence[tuple[Path, str | None]]) -> list[_Shard]:
        return [_unpack_one(folder, path, split) for path, split in shards]

    shards = list(stream_chunks(unpack, list(split_of.items()), size=1))
    _require_distinct(shards)
    skipped = sum((shard.skipped for shard in shards), Counter[str]())
    if skipped:
        endings = ", ".join(f".{ending}" if ending else "without ending" for ending, _ in skipped.most_common())
        LOGGER.info("%d files in shards skipped: no images or labels (%s)", skipped.total(), endings)
    labels = [_labels(shard) for shard in shards]
    if not any(label is not None for each in labels for label in each.values()):
        return  # the classes are the folders
    rows = []
    for shard, label_by_key, split in zip(shards, labels, split_of.values(), strict=True):
        for key, label in label_by_key.items():
            if label is not None:
                # Without an image there is no file of this name, which the table reports.
                rows.append((shard.images.get(key, key), label, split))
            elif key in shard.images:
                shown = escape(shard.images[key])
                message = f'{shard.name}: {shown!r} has no label; add a .cls or .txt, or a .json with "label"'
                raise DataError(message)
    write_table(folder / LABELS, rows)


def _unpack_one(folder: Path, path: Path, split: str | None) -> _Shard:
    shard = _Shard(name=escape(path.name))
    parents = set[Path]()
    for name, content in read_members(path, lambda name: _ending_of(name) in {*IMAGES, *LABEL_ENDINGS}):
        below = name if split is None else f"{split}/{name}"
        key, ending = _key_of(below), _ending_of(name)
        if content is None:
            shard.skipped[ending] += 1
        elif ending in IMAGES:
            if key in shard.images:
                _refuse_pair(shard.images[key], below, shard.name, shard.name)
            shard.images[key] = below
            if not _write_image(folder / below, content, parents, shard.name):
                shard.clashes.append(below)
        elif _fields_of(name) in LABEL_ENDINGS:  # a.seg.json is no label of a.jpg
            shard.texts.setdefault(key, {})[ending] = _text_of(content, name, shard.name)
    return shard


def _write_image(path: Path, content: bytes, parents: set[Path], shard: str) -> bool:
    """Write an image, and return whether there was nothing else at its path; raises DataError for an impossible one."""
    try:
        if path.parent not in parents:
            path.parent.mkdir(parents=True, exist_ok=True)
            parents.add(path.parent)
        # Not written over: an image of another shard, perhaps, or the same name to a file system without upper case.
        with path.open("xb") as file:
            file.write(content)
    except (FileExistsError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        message = f"{shard}: {escape(path.name):.80} cannot be unpacked ({os.strerror(error.errno)})"
        raise DataError(message) from error
    return True


def _key_of(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / path.name.partition(".")[0]).as_posix()


def _fields_of(name: str) -> str:
    return PurePosixPath(name).name.partition(".")[2].lower()


def _ending_of(name: str) -> str:
    return _fields_of(name).rpartition(".")[2]


def _text_of(content: bytes, name: str, shard: str) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        message = f"{shard}: {escape(name)!r} is not UTF-8"
        raise DataError(message) from error


def _require_distinct(shards: Sequence[_Shard]) -> None:
    """Raise DataError if two shards have an image of one key, or if two paths are the same on this machine."""
    first: dict[str, _Shard] = {}
    for shard in shards:
        for key, name in shard.images.items():
            if (other := first.setdefault(key, shard)) is not shard:
                _refuse_pair(other.images[key], name, other.name, shard.name)
    # Afterwards: which of two images of one key was unpacked first is chance.
    for shard in shards:
        if shard.clashes:
            message = f"{shard.name}: {escape(shard.clashes[0])!r} is also the path of a folder or of another image"
            raise DataError(message)


def _refuse_pair(one: str, two: str, shard: str, other: str) -> None:
    where = shard if shard == other else f"{shard} and {other}"
    pair = " and ".join(dict.fromkeys((escape(one), escape(two))))
    message = f"{where}: two images with the key {escape(_key_of(one))!r} ({pair}), which ends at the first dot"
    raise DataError(message)


def _labels(shard: _Shard) -> dict[str, Label | None]:
    """Return the label of each key that has an image or a label; None if it has no label."""
    keys = dict.fromkeys([*shard.images, *shard.texts])
    return {key: label_of(shard.texts.get(key, {}), key, shard.name) for key in keys}
