"""The images of the page: which test images have a picture, the findings of the audit, and thumbnails."""

import base64
import io
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.comparison.analysis import Comparison
from bench.runs.images import ImageSource
from imgcls.data.decode import UndecodableError, decode, quiet_libraries

if TYPE_CHECKING:
    from bench.records.predictions import StoredPredictions

# The numbers of images are limited because the page contains their thumbnails, and must not grow with the data set.
PICTURES: Final = 1_000
"""Test images that have a picture."""

LISTED: Final = 20_000
"""Test images that are listed with all predictions: half a megabyte for each of ten rows."""

GROUPS_SHOWN: Final = 40

REMOVED_SHOWN: Final = 200

THUMBNAIL_PX: Final = 96

PIXEL_ART_PX: Final = 32
"""Images of up to this size are shown unscaled and lossless."""


def pictured(comparison: Comparison) -> list[str]:
    """Return the ids of the test images that get a picture: most often misclassified first, then least confident."""
    stored = _stored(comparison)
    return [stored[0].image_ids[image] for image in _telling(stored)[:PICTURES].tolist()] if stored else []


def listed(comparison: Comparison) -> NDArray[np.int64] | None:
    """Return the test images that the page lists, in order: of many, those that ``pictured`` ranks first; None: all."""
    stored = _stored(comparison)
    return np.sort(_telling(stored)[:LISTED]) if stored and len(stored[0].labels) > LISTED else None


def _stored(comparison: Comparison) -> "list[StoredPredictions]":
    """Return the predictions of the first seed of each compared row."""
    return [
        checkpoint.predictions
        for row in comparison.compared
        for checkpoint in row.checkpoints[:1]
        if checkpoint.predictions is not None
    ]


def _telling(stored: "Sequence[StoredPredictions]") -> NDArray[np.int64]:
    """Return all test images, the most often misclassified first, then the least confident."""
    wrong = np.sum([~predictions.right for predictions in stored], axis=0)
    # Added one by one: an array of all rows would take gigabytes with a million images.
    confidence = reduce(np.add, (predictions.p_predicted for predictions in stored)) / len(stored)
    return np.lexsort((confidence, -wrong))


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
