"""Random draws of images for splits and folds: stratified by class, each group whole."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from imgcls.config import SPLITS, SplitConfig
from imgcls.data.audit import Audit
from imgcls.errors import DataError
from imgcls.messages import Setting

Group = tuple[int, ...]
"""Indices of images that must stay in one split."""


def groups_by_class(audit: Audit, indices: Iterable[int]) -> dict[int, list[Group]]:
    """Return the groups of each class, in the order of their first image.

    The class of a group is that of most of its images, as images of one group may have different labels.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in indices:
        members[audit.images[index].group].append(index)
    by_class: defaultdict[int, list[Group]] = defaultdict(list)
    for group in members.values():
        labels = Counter(audit.images[index].label for index in group)
        by_class[min(labels, key=lambda label: (-labels[label], label))].append(tuple(group))
    return by_class


def groups_with(audit: Audit, indices: Iterable[int]) -> dict[int, int]:
    """Return the number of groups that hold an image of each class."""
    return Counter(label for label, _ in {(audit.images[index].label, audit.images[index].group) for index in indices})


def draw(
    audit: Audit, indices: Sequence[int], fractions: dict[str, float], config: SplitConfig
) -> dict[str, list[int]]:
    """Draw the named fractions of every class; the rest is train."""
    if config.group_by is not None:
        return _draw_groups(audit, indices, fractions, config)
    seed = config.split_seed
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label, groups in sorted(groups_by_class(audit, indices).items()):
        # A generator per class, so that images added to one class do not change the division of the others.
        rng = np.random.default_rng([seed, label])
        waiting = [groups[position] for position in rng.permutation(len(groups))]
        total = sum(len(group) for group in groups)
        for name, fraction in fractions.items():
            chosen = _choose(waiting, target=round(fraction * total), leave=len(fractions))
            parts[name] += [index for group in chosen for index in group]
            taken = set(chosen)
            waiting = [group for group in waiting if group not in taken]
        parts["train"] += [index for group in waiting for index in group]
    return {name: sorted(part) for name, part in parts.items()}


def _choose(waiting: list[Group], *, target: int, leave: int) -> list[Group]:
    """Choose groups of up to ``target`` images, at least one group, and leave ``leave`` groups for the other splits."""
    chosen: list[Group] = []
    size = 0
    for group in waiting:
        if size + len(group) <= target and len(waiting) - len(chosen) > leave:
            chosen.append(group)
            size += len(group)
    # If no group fits, take the smallest one, so that no split lacks the class; the last group stays in train.
    return chosen or [min(waiting, key=len)][: len(waiting) - 1]


def _draw_groups(
    audit: Audit, indices: Sequence[int], fractions: dict[str, float], config: SplitConfig
) -> dict[str, list[int]]:
    """Draw the named fractions, whole groups that may hold images of several classes; the rest is train.

    The images are dealt into equal parts, ten for a tenth, and each fraction is one of them.
    """
    count = len({audit.images[index].group for index in indices})
    if count <= len(fractions):
        reason = (
            f": {len(indices)} images of {audit.name} are in {count} group(s); "
            f"{len(fractions) + 1} or more are needed for {', '.join(fractions)} and train"
        )
        raise DataError(Setting("group_by", config.group_by), reason)
    # scikit-learn deals no more parts than the largest class has images.
    largest = max(Counter(audit.images[index].label for index in indices).values())
    number = min(round(1 / max(fractions.values())), count, max(largest, len(fractions) + 1))
    dealt = deal(audit, indices, number, config.split_seed)
    members = [
        [index for index, part in zip(indices, dealt, strict=True) if part == part_index]
        for part_index in range(number)
    ]
    # The parts with most classes are evaluated: a class in few groups is not in all parts.
    members.sort(key=lambda part: -len({audit.images[index].label for index in part}))
    train = [index for part in members[len(fractions) :] for index in part]
    parts = dict(zip(fractions, members, strict=False))
    return {name: sorted(parts.get(name, train if name == "train" else [])) for name in SPLITS}


def deal(audit: Audit, indices: Sequence[int], number: int, seed: int) -> NDArray[np.int64]:
    """Return the part of each of the given images, 0 to ``number - 1``: stratified by class, each group in one part."""
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - takes a second to import

    dealer = StratifiedGroupKFold(n_splits=number, shuffle=True, random_state=seed)
    labels, groups = ([getattr(audit.images[index], name) for index in indices] for name in ("label", "group"))
    parts = np.empty(len(labels), dtype=np.int64)
    with warnings.catch_warnings():
        # About classes with fewer images than parts, which ``missing_classes`` reports.
        warnings.filterwarnings("ignore", category=UserWarning)
        for part, (_, members) in enumerate(dealer.split(np.zeros(len(labels)), labels, groups)):
            parts[members] = part
    return parts
