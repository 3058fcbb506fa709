"""Random draws of images for splits and folds: stratified by class, each group whole."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgcls.config import SPLITS, SplitConfig
from imgcls.data.audit import Audit
from imgcls.data.auditing.images import Images
from imgcls.errors import DataError
from imgcls.messages import Setting


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Groups:
    """The groups that some images are in, numbered in the order of their first image."""

    of_image: NDArray[np.int64]
    """The group of each of the images, in their order."""
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    """The class of each group: that of most of its images, as images of one group may have different labels."""


def groups_of(images: Images, indices: NDArray[np.int64]) -> Groups:
    """Return the groups of the given images."""
    _, first, of_image, sizes = np.unique(
        images.groups[indices], return_index=True, return_inverse=True, return_counts=True
    )
    order = np.argsort(first)
    of_image = np.argsort(order)[of_image]
    pairs, counts = np.unique(np.stack([of_image, images.labels[indices]]), axis=1, return_counts=True)
    # The most frequent label of each group comes first, of equally frequent ones the smallest.
    ranked = pairs[:, np.lexsort((pairs[1], -counts, pairs[0]))]
    _, top = np.unique(ranked[0], return_index=True)
    return Groups(of_image=of_image, sizes=sizes[order], labels=ranked[1, top])


def groups_with(images: Images) -> dict[int, int]:
    """Return the number of groups that hold an image of each class."""
    labels = np.unique(np.stack([images.labels, images.groups]), axis=1)[0]
    return dict(enumerate(np.bincount(labels).tolist()))


def draw(
    audit: Audit, indices: NDArray[np.int64], fractions: dict[str, float], config: SplitConfig
) -> dict[str, list[int]]:
    """Draw the named fractions of every class; the rest is train. ``indices`` are in ascending order."""
    if config.group_by is not None:
        return _draw_groups(audit, indices, fractions, config)
    groups = groups_of(audit.images, indices)
    part_of = np.full(len(groups.sizes), SPLITS.index("train"))
    for label in np.unique(groups.labels).tolist():
        members = np.flatnonzero(groups.labels == label)
        # A generator per class, so that images added to one class do not change the division of the others.
        waiting = members[np.random.default_rng([config.split_seed, label]).permutation(len(members))]
        total = int(groups.sizes[members].sum())
        for name, fraction in fractions.items():
            chosen = _choose(groups.sizes[waiting].tolist(), target=round(fraction * total), leave=len(fractions))
            part_of[waiting[chosen]] = SPLITS.index(name)
            waiting = np.delete(waiting, chosen)
    parts = part_of[groups.of_image]
    return {name: indices[parts == number].tolist() for number, name in enumerate(SPLITS)}


def _choose(sizes: list[int], *, target: int, leave: int) -> list[int]:
    """Choose groups of up to ``target`` images, at least one group, and leave ``leave`` groups for the other splits."""
    chosen: list[int] = []
    images = 0
    for group, size in enumerate(sizes):
        if images + size <= target and len(sizes) - len(chosen) > leave:
            chosen.append(group)
            images += size
    # If no group fits, take the smallest one, so that no split lacks the class; the last group stays in train.
    return chosen or [sizes.index(min(sizes))][: len(sizes) - 1]


def _draw_groups(
    audit: Audit, indices: NDArray[np.int64], fractions: dict[str, float], config: SplitConfig
) -> dict[str, list[int]]:
    """Draw the named fractions, whole groups that may hold images of several classes; the rest is train.

    The images are dealt into equal parts, ten for a tenth, and each fraction is one of them.
    """
    labels = audit.images.labels[indices]
    count = len(np.unique(audit.images.groups[indices]))
    if count <= len(fractions):
        reason = (
            f": {len(indices)} images of {audit.name} are in {count} group(s); "
            f"{len(fractions) + 1} or more are needed for {', '.join(fractions)} and train"
        )
        raise DataError(Setting("group_by", config.group_by), reason)
    # scikit-learn deals no more parts than the largest class has images.
    largest = int(np.bincount(labels).max())
    number = min(round(1 / max(fractions.values())), count, max(largest, len(fractions) + 1))
    dealt = deal(audit.images, indices, number, config.split_seed)
    # The parts with most classes are evaluated: a class in few groups is not in all parts.
    ranked = sorted(range(number), key=lambda part: -len(np.unique(labels[dealt == part])))
    evaluated = dict(zip(fractions, ranked, strict=False))
    parts = {name: dealt == evaluated[name] for name in SPLITS if name in evaluated}
    parts["train"] = ~np.isin(dealt, list(evaluated.values()))
    return {name: indices[parts[name]].tolist() if name in parts else [] for name in SPLITS}


def deal(images: Images, indices: NDArray[np.int64], number: int, seed: int) -> NDArray[np.int64]:
    """Return the part of each of the given images, 0 to ``number - 1``: stratified by class, each group in one part."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - takes a second to import

    dealer = StratifiedGroupKFold(n_splits=number, shuffle=True, random_state=seed)
    labels, groups = images.labels[indices], images.groups[indices]
    parts = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # About classes with fewer images than parts, which ``missing_classes`` reports.
        warnings.filterwarnings("ignore", category=UserWarning)
        for part, (_, members) in enumerate(dealer.split(np.zeros(len(labels)), labels, groups)):
            parts[members] = part
    return parts
