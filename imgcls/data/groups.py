"""Groups of images that are not independent: duplicates, and images of one patient, video or session."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imgcls.data.audit import Audit
from imgcls.data.auditing.duplicates import first_of_each, pairs_of
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
    return replace(audit, images=audit.images.with_groups(_merged(audit.images.groups, values)))


def apart(audit: Audit) -> Audit:
    """Return an audit without near-duplicates: they are different images, and only exact copies are in one group."""
    copies = {image_id for ids in audit.exact_duplicates for image_id in ids}
    row_of = {image_id: row for row, image_id in enumerate(audit.images.ids.tolist()) if image_id in copies}
    rows = [[row_of[image_id] for image_id in ids] for ids in audit.exact_duplicates]
    groups = first_of_each(len(audit.images), pairs_of(rows))
    across = (
        ids
        for ids, members in zip(audit.exact_duplicates, rows, strict=True)
        if len(np.unique(audit.images.splits[members])) > 1
    )
    images = audit.images.with_groups(groups)
    return replace(audit, images=images, near_duplicates=(), near_conflicts=(), across_splits=tuple(across))


def _values(audit: Audit, group_by: str) -> list[str]:
    """Return the value of each image; blank for an image that is alone."""
    if group_by == PARENT:
        return [str(PurePosixPath(image_id).parent) for image_id in audit.images.ids.tolist()]
    # Names of columns are in lower case.
    if group_by.lower() in audit.columns:
        values: list[str] = audit.images.values[audit.columns.index(group_by.lower())].tolist()
        return values
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        names = ", ".join((PARENT, *audit.columns))
        reason = f": not a regular expression ({error}), and none of: {names}"
        raise ConfigError(Setting("group_by", group_by), reason) from error
    matches = map(pattern.search, audit.images.ids.tolist())
    return [(match.group(1 if pattern.groups else 0) or "") if match else "" for match in matches]


def _merged(groups: NDArray[np.int64], values: Sequence[str]) -> NDArray[np.int64]:
    """Return the group of each image after joining those with equal values; a group is named by its first image."""
    # Duplicates in two groups join these: neither of them may be divided. Groups and values are nodes after the images.
    count = len(groups)
    _, group_nodes = np.unique(groups, return_inverse=True)
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    value_nodes = np.array([numbers[value] for value in values], dtype=np.int64)
    known = np.flatnonzero([bool(value) for value in values])
    pairs = np.concatenate(
        [
            np.stack([np.arange(count), count + group_nodes], axis=1),
            np.stack([known, 2 * count + value_nodes[known]], axis=1),
        ]
    )
    return first_of_each(3 * count, pairs)[:count]
