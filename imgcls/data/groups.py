"""Groups of images that are not independent: duplicates, and images of one patient, video or session."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from scipy.cluster.hierarchy import DisjointSet

from imgcls.data.audit import Audit
from imgcls.data.sources.file_names import composed
from imgcls.errors import ConfigError
from imgcls.messages import Setting

PARENT: Final = "parent"
"""Value of ``group_by`` for the folder that an image lies in."""


def grouped(audit: Audit, group_by: str | None) -> Audit:
    """Return an audit in which images with an equal value of ``group_by`` are in one group, as duplicates are.

    ``group_by`` is ``parent`` (the image's folder), the name of a column of the table of labels, or a regular
    expression that is searched in image ids; its first group, or the whole match, is the value. An image with a blank
    value, or whose id does not match, is alone. Without ``group_by`` the audit is returned as it is.

    Raises ConfigError if the expression does not compile or matches no image, or if a column is blank.
    """
    if group_by is None:
        return audit
    group_by = composed(group_by)
    values = _values(audit, group_by)
    if not any(values):
        column = f"column {group_by!r} is blank" if group_by in audit.columns else "it matches no image id"
        columns = f"; columns: {', '.join(audit.columns)}" if audit.columns else ""
        reason = f": {column}, such as {audit.images[0].image_id!r}{columns}"
        raise ConfigError(Setting("group_by", group_by), reason)
    groups = _merged([image.group for image in audit.images], values)
    images = tuple(replace(image, group=group) for image, group in zip(audit.images, groups, strict=True))
    return replace(audit, images=images)


def apart(audit: Audit) -> Audit:
    """Return an audit without near-duplicates: they are different images, and only exact copies are in one group."""
    place = {image.image_id: index for index, image in enumerate(audit.images)}
    first = {image_id: place[ids[0]] for ids in audit.exact_duplicates for image_id in ids}
    images = tuple(replace(image, group=first.get(image.image_id, index)) for index, image in enumerate(audit.images))
    split_of = {image.image_id: image.split for image in audit.images}
    across = (ids for ids in audit.exact_duplicates if len({split_of[image_id] for image_id in ids}) > 1)
    return replace(audit, images=images, near_duplicates=(), near_conflicts=(), across_splits=tuple(across))


def _values(audit: Audit, group_by: str) -> list[str]:
    """Return the value of each image; blank for an image that is alone."""
    if group_by == PARENT:
        return [str(PurePosixPath(image.image_id).parent) for image in audit.images]
    # Names of columns are in lower case.
    if group_by.lower() in audit.columns:
        column = audit.columns.index(group_by.lower())
        return [image.values[column] for image in audit.images]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        names = ", ".join((PARENT, *audit.columns))
        reason = f": not a regular expression ({error}), and none of: {names}"
        raise ConfigError(Setting("group_by", group_by), reason) from error
    matches = [pattern.search(image.image_id) for image in audit.images]
    return [(match.group(1 if pattern.groups else 0) or "") if match else "" for match in matches]


def _merged(groups: Sequence[int], values: Sequence[str]) -> list[int]:
    """Return the group of each image after joining those with equal values; a group is named by its first image."""
    # Duplicates in two groups join these: neither of them may be divided.
    joined = DisjointSet(range(len(groups)))
    first: dict[tuple[str, int | str], int] = {}
    for index, (group, value) in enumerate(zip(groups, values, strict=True)):
        for key in (("duplicates", group), ("value", value)) if value else (("duplicates", group),):
            joined.merge(first.setdefault(key, index), index)
    smallest: defaultdict[int, int] = defaultdict(lambda: len(groups))
    roots = [joined[index] for index in range(len(groups))]
    for index, root in enumerate(roots):
        smallest[root] = min(smallest[root], index)
    return [smallest[root] for root in roots]
