"""The images of the page: which test images have a picture, the findings of the audit, and thumbnails."""

import base64
import io
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from PIL import Image

from bench.comparison.analysis import Comparison
from bench.runs.images import ImageSource
from imgcls.data.decode import UndecodableError, decode, quiet_libraries

# The numbers of images are limited because the page contains their thumbnails, and must not grow with the data set.
PICTURES: Final = 1_000
"""Test images that have a picture."""

GROUPS_SHOWN: Final = 40

REMOVED_SHOWN: Final = 200

THUMBNAIL_PX: Final = 96

PIXEL_ART_PX: Final = 32
"""Images of up to this size are shown unscaled and lossless."""


def pictured(comparison: Comparison) -> list[str]:
    """Return the ids of the test images that get a picture: most often misclassified first, then least confident."""
    every = [
        checkpoint.predictions
        for row in comparison.compared
        for checkpoint in row.checkpoints[:1]
        if checkpoint.predictions is not None
    ]
    if not every:
        return []
    wrong = np.sum([~predictions.right for predictions in every], axis=0)
    confidence = np.mean([predictions.p_predicted for predictions in every], axis=0)
    order = np.lexsort((confidence, -wrong))
    return [every[0].image_ids[image] for image in order[:PICTURES].tolist()]


def across_splits(images: ImageSource) -> set[str]:
    """Return the ids of images with a duplicate in another split of those that the data set has."""
    return {image_id for ids in images.audit.across_splits for image_id in ids}


def audit_view(images: ImageSource) -> dict[str, Any]:
    """Return what the page shows of an audit: skipped files with their reasons, and groups of duplicates."""
    audit = images.audit
    # Leaks first: they change what the test split can show.
    torn = across_splits(images)
    groups = [("across the given splits", ids) for ids in audit.across_splits]
    for kind, members in (("exact", audit.exact_duplicates), ("near", audit.near_duplicates)):
        groups += [(kind, ids) for ids in members if not torn & {*ids}]
    return {
        "removed": [
            (removal.image_id, "" if removal.label is None else audit.class_names[removal.label], removal.reason)
            for removal in audit.removed[:REMOVED_SHOWN]
        ],
        "removed_total": len(audit.removed),
        "groups": groups[:GROUPS_SHOWN],
        "groups_total": len(groups),
        "leaking": len(audit.across_splits),
    }


def thumbnails(images: ImageSource, image_ids: Iterable[str]) -> dict[str, str]:
    """Return a data URI for each image; an image that cannot be decoded is omitted."""
    uris = {}
    # Without repetitions, as an image may be in several galleries; ``dict`` keeps the order, unlike ``set``.
    with quiet_libraries():
        for image_id in dict.fromkeys(image_ids):
            try:
                uris[image_id] = _data_uri(decode(images.file(image_id)).image)
            except (UndecodableError, OSError):
                continue
    return uris


def _data_uri(image: Image.Image) -> str:
    # JPEG artefacts would hide the content of an image of 8 x 8 px, whose PNG is small anyway.
    small = max(image.size) <= PIXEL_ART_PX
    out = io.BytesIO()
    if not small:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(out, "PNG" if small else "JPEG", quality=75)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
