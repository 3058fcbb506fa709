"""Division of audited images into train, val and test: stratified by class, with each group in one split."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.config import SPLITS, SplitConfig
from imgcls.data.audit import Audit
from imgcls.data.auditing.images import Images
from imgcls.data.groups import apart, grouped
from imgcls.data.stratification import deal, draw, groups_of, groups_with
from imgcls.errors import ConfigError, DataError
from imgcls.files import json_list
from imgcls.messages import Part, Setting

VAL_FRACTION: Final = 0.1
TEST_FRACTION: Final = 0.1
# One for each of train, val and test.
MIN_GROUPS: Final = 3
MIN_TRAIN: Final = 2
"""Train images: batch norm has no variance of a single one."""
LEAST_FOR_TWO_FOLDS: Final = 4
"""Groups per class for two folds: the fold that is not tested must hold train and val."""

NAMES_SHOWN: Final = 5

DEFAULT: Final = SplitConfig()


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Indices into the audit's images for each split, and a digest of their content."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    undersampled: tuple[int, ...]
    """Training images removed to balance the classes."""
    dropped: tuple[int, ...]
    """Images removed from train and val by ``drop_leaks``."""
    leaks: tuple[int, ...]
    """Test images whose group is also in train or val: only a given split has any, or one that only reports them."""
    source: str
    """Origin of the division: ``ours``, ``given``, ``given, val cut from train``, or ``ours, fold 1 of 5``."""
    given: bool
    """Whether the test split is one of the data set's own folders or table."""
    digest: str
    groups: tuple[int, ...]
    """Group of each image of the audit, in its order: duplicates share one, and images with one ``group_by`` value."""
    folds_digest: str | None = None
    """Digest of all folds together: equal for runs on folds of one division."""


def make_splits(audit: Audit, config: SplitConfig = DEFAULT) -> Splits:
    """Divide the images 80/10/10, into folds, or by their split folders, then undersample train.

    Raises DataError if a class is too small for all splits, or if the split folders hold no usable train or test
    image; ConfigError if folds are requested of a data set with split folders, or without the number of one fold, or
    if no image can be grouped as requested. A split may lack a small class that has large groups; ``missing_classes``
    reports it.
    """
    # Whose group is also in train or val is a question of how the images look, unless they are to be different.
    similar = grouped(audit, config.group_by) if config.near_duplicates == "report" else None
    audit = grouped(audit if config.near_duplicates == "group" else apart(audit), config.group_by)
    folds = _assign_folds(audit, config)
    parts, source = _divide(audit, config) if folds is None else _take_fold(audit, folds, config)
    whole = parts
    if config.drop_leaks:
        parts = _without_leaks(audit, parts)
        source = f"{source}, leaks dropped"
    # After the division, and only train: val and test keep the class distribution of the data.
    kept = _undersample(audit, parts["train"], config)
    if len(kept) < MIN_TRAIN:
        message = f"train of {audit.name} has {len(kept)} usable image(s); {MIN_TRAIN} or more are needed"
        raise DataError(message)
    left_out = sorted(set(parts["train"]) - set(kept))
    return Splits(
        train=tuple(kept),
        val=tuple(parts["val"]),
        test=tuple(parts["test"]),
        undersampled=tuple(left_out),
        dropped=tuple(sorted(index for name in SPLITS for index in set(whole[name]) - set(parts[name]))),
        leaks=_leaks(audit, parts) if similar is None else _leaks(similar, parts),
        source=source if config.near_duplicates == "group" else f"{source}, near-duplicates as different images",
        given=audit.given_splits and config.split != "generated",
        digest=_digest(audit, {**parts, "train": kept}, config),
        groups=tuple(audit.images.groups.tolist()),
        folds_digest=None if folds is None else _digest_of_folds(audit, folds, config),
    )


def _leaks(audit: Audit, parts: dict[str, list[int]]) -> tuple[int, ...]:
    """Return the test images whose group is also in train or val."""
    groups, test = audit.images.groups, np.array(parts["test"], dtype=np.int64)
    return tuple(test[np.isin(groups[test], groups[parts["train"] + parts["val"]])].tolist())


def _without_leaks(audit: Audit, parts: dict[str, list[int]]) -> dict[str, list[int]]:
    """Remove from train and val the images whose group is also in a later split, which stays as it is.

    Raises DataError if train or val has no image left.
    """
    groups, later, kept = audit.images.groups, list(parts["test"]), {"test": parts["test"]}
    for name in ("val", "train"):
        rows = np.array(parts[name], dtype=np.int64)
        kept[name] = rows[~np.isin(groups[rows], groups[later])].tolist()
        later += kept[name]
        if not kept[name]:
            reason = f": every {name} image of {audit.name} shares a group with a later split"
            raise DataError(Setting("drop_leaks", value=True), reason)
    return kept


def _assign_folds(audit: Audit, config: SplitConfig) -> NDArray[np.int64] | None:
    """Return the fold of each image, ``[N]``, stratified by class, each group in one fold; None without folds.

    Raises DataError if a class has too few images, ConfigError if the data set has split folders.
    """
    if config.folds is None:
        return None
    _refuse_without_given(audit, config)
    if audit.given_splits and config.split != "generated":
        reason = f": {audit.name} has train/test folders of its own; add "
        raise ConfigError(Setting("folds", config.folds), reason, Setting("split", "generated"), " to ignore them")
    _require_groups(audit, config, least=max(config.folds, LEAST_FOR_TWO_FOLDS // (config.folds - 1)))
    return deal(audit.images, np.arange(len(audit.images)), config.folds, config.split_seed)


def _take_fold(audit: Audit, folds: NDArray[np.int64], config: SplitConfig) -> tuple[dict[str, list[int]], str]:
    """Return the splits of a run on one fold, which is its test split; val is drawn from the other folds."""
    assert config.folds is not None
    if config.fold is None:
        hint = (": a run needs one of them, ", Setting("fold", 0), f" to {config.folds - 1}")
        raise ConfigError(Setting("folds", config.folds), *hint)
    rest = np.flatnonzero(folds != config.fold)
    # val is the same fraction of all images as without folds.
    share = min(VAL_FRACTION * config.folds / (config.folds - 1), 0.5)
    parts = draw(audit, rest, {"val": share}, config)
    return {
        **parts,
        "test": np.flatnonzero(folds == config.fold).tolist(),
    }, f"ours, fold {config.fold} of {config.folds}"


def class_counts(audit: Audit, indices: Sequence[int]) -> list[int]:
    """Return the number of images of each class, in the order of ``audit.class_names``."""
    labels = audit.images.labels[np.array(indices, dtype=np.int64)]
    counts: list[int] = np.bincount(labels, minlength=len(audit.class_names)).tolist()
    return counts


def missing_classes(audit: Audit, splits: Splits) -> list[str]:
    """Return a line for each split that lacks classes."""
    lines = []
    for split in SPLITS:
        counts = class_counts(audit, getattr(splits, split))
        names = [name for name, count in zip(audit.class_names, counts, strict=True) if count == 0]
        if names:
            classes = "class" if len(names) == 1 else f"{len(names)} classes:"
            more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
            lines.append(f"{split} has no image of {classes} {', '.join(names[:NAMES_SHOWN])}{more}")
    return lines


def _divide(audit: Audit, config: SplitConfig) -> tuple[dict[str, list[int]], str]:
    if not audit.given_splits or config.split == "generated":
        _refuse_without_given(audit, config)
        _require_groups(audit, config, least=MIN_GROUPS)
        return draw(
            audit, np.arange(len(audit.images)), {"test": TEST_FRACTION, "val": VAL_FRACTION}, config
        ), "generated"
    given = {name: np.flatnonzero(audit.images.splits == number).tolist() for number, name in enumerate(SPLITS)}
    if config.val_as_test:
        if given["test"] or not given["val"]:
            splits = ", ".join(name for name in SPLITS if given[name])
            reason = f": {audit.name} has {splits}; it needs train and val without test"
            raise ConfigError(Setting("val_as_test", value=True), reason)
        given = {"train": given["train"], "val": [], "test": given["val"]}
    if not given["test"]:
        hint = (Setting("val_as_test", value=True), " to use val, or ") if given["val"] else ()
        message = f"{audit.name} has no usable test image: add some, or use "
        raise DataError(message, *hint, Setting("split", "generated"), " to create a new split")
    if not given["train"]:
        message = f"{audit.name} has no usable image in train: add some, or create a new split with "
        raise DataError(message, Setting("split", "generated"))
    source = "given, val as test" if config.val_as_test else "given"
    # A published division is used as it is, even if a split lacks a class: results on it must stay comparable.
    if given["val"]:
        return given, source
    share = VAL_FRACTION / (1 - TEST_FRACTION)
    cut = draw(audit, np.array(given["train"]), {"val": share}, config)
    return {**cut, "test": given["test"]}, f"{source}, val cut from train"


def _refuse_without_given(audit: Audit, config: SplitConfig) -> None:
    for name in ("drop_leaks", "val_as_test"):
        if getattr(config, name):
            reason = f": {audit.name} is not divided by split folders; our own split keeps duplicates together"
            raise ConfigError(Setting(name, value=True), reason)


def _require_groups(audit: Audit, config: SplitConfig, *, least: int) -> None:
    images = class_counts(audit, range(len(audit.images)))
    if config.group_by is None:
        labels = groups_of(audit.images, np.arange(len(audit.images))).labels
        counts = dict(enumerate(np.bincount(labels).tolist()))
    else:
        counts = groups_with(audit.images)
    for label, class_name in enumerate(audit.class_names):
        count = counts.get(label, 0)
        if count < least:
            amount: tuple[Part, ...] = (f"{count} usable image(s) or groups of duplicates",)
            if config.group_by is not None:
                grouping = Setting("group_by", config.group_by)
                amount = (f"{images[label]} usable image(s) in {count} group(s) by ", grouping)
            start = f"class {class_name!r} of {audit.name} has "
            needed = f"; each class needs {least} or more, one for each split or fold"
            raise DataError(start, *amount, needed, *_similar(audit, label, images[label]))


def _similar(audit: Audit, label: int, images: int) -> tuple[Part, ...]:
    """Return what happened if one group of near-duplicates holds more than half of a class."""
    members = set(audit.images.ids[audit.images.labels == label].tolist())
    largest = max((len(members & {*ids}) for ids in audit.near_duplicates), default=0)
    if 2 * largest <= images:
        return ()
    reason = f"; {largest} of its {images} images look alike, as under a fixed camera: if they show different objects"
    return (reason, ", add ", Setting("near_duplicates", "keep"))


def _undersample(audit: Audit, train: list[int], config: SplitConfig) -> list[int]:
    if config.max_class_ratio is None:
        return train
    rows = np.array(train, dtype=np.int64)
    labels, counts = np.unique(audit.images.labels[rows], return_counts=True)
    limit = int(config.max_class_ratio * counts.min())
    kept: list[int] = []
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        # The 1 separates this random stream from that of the division.
        order = np.random.default_rng([config.split_seed, label, 1]).permutation(count)[:limit]
        kept += rows[audit.images.labels[rows] == label][order].tolist()
    return sorted(kept)


def _digest(audit: Audit, parts: dict[str, list[int]], config: SplitConfig) -> str:
    digest = _start(audit, config)
    for name in SPLITS:
        digest.update(b"[" + json.dumps(name).encode() + b", ")
        for text in json_list(_identities(audit.images, parts[name])):
            digest.update(text)
        digest.update(b"]")
    return digest.hexdigest()[:16]


def _start(audit: Audit, config: SplitConfig) -> "hashlib._Hash":
    digest = hashlib.sha256(audit.digest.encode())
    # Tests and intervals depend on the groups, so that runs with other groups are not compared, even if a given split
    # leaves their images the same.
    if config.near_duplicates != "group":
        digest.update(config.near_duplicates.encode())
    if config.group_by is not None or config.near_duplicates != "group":
        digest.update(json.dumps(audit.images.groups.tolist()).encode())
    return digest


def _digest_of_folds(audit: Audit, folds: NDArray[np.int64], config: SplitConfig) -> str:
    digest = _start(audit, config)
    identities = _identities(audit.images, range(len(audit.images)))
    for text in json_list(zip(identities, folds.tolist(), strict=True)):
        digest.update(text)
    return digest.hexdigest()[:16]


def _identities(images: Images, rows: Sequence[int]) -> Iterator[tuple[str, int, str]]:
    index = np.array(rows, dtype=np.int64)
    digests = images.pixel_digests[index].astype("U").tolist()
    return zip(images.ids[index].tolist(), images.labels[index].tolist(), digests, strict=True)
