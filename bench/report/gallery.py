"""Galleries of misclassified images and of the findings of the audit, with thumbnails of the images."""

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from bench.comparison.analysis import Comparison
from bench.comparison.tables import Row
from bench.runs.images import ImageSource
from imgcls.data.decode import UndecodableError, decode, quiet_libraries
from imgcls.data.sources.names import file_of

# The numbers of images are limited because the page contains their thumbnails, and must not grow with the data set.
WRONG_SHOWN: Final = 24
"""Misclassified images shown of each row's first seed, the most confident first."""

ALL_WRONG_SHOWN: Final = 48

GROUPS_SHOWN: Final = 40

REMOVED_SHOWN: Final = 200

THUMBNAIL_PX: Final = 96

PIXEL_ART_PX: Final = 32
"""Images of up to this size are shown unscaled and lossless."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One misclassified image: its true class, and the predicted class or classes as text."""

    image_id: str
    true: str
    answers: str


def mistakes(comparison: Comparison) -> list[tuple[str, list[Mistake]]]:
    """Return a title and the misclassified images of each row's first seed, the most confident first."""
    return [_mistakes_of(row, comparison.table.first.dataset.class_names) for row in comparison.compared]


def _mistakes_of(row: Row, names: Sequence[str]) -> tuple[str, list[Mistake]]:
    answers = row.checkpoints[0].answers
    assert answers is not None
    wrong = np.flatnonzero(~answers.right)
    # Stable, so that equal confidences do not change the page when it is written again.
    worst = wrong[np.argsort(-answers.p_predicted[wrong], kind="stable")][:WRONG_SHOWN]
    shown = [
        Mistake(
            image_id=answers.image_ids[image],
            true=names[answers.labels[image]],
            answers=f"{names[answers.predicted[image]]} ({100 * answers.p_predicted[image]:.0f} %)",
        )
        for image in worst.tolist()
    ]
    some = f", the {len(shown)} most confident" if len(wrong) > len(shown) else ""
    return f"{row.name}, seed {row.checkpoints[0].seed}: {len(wrong)} misclassified{some}", shown


def wrong_by_all(comparison: Comparison) -> tuple[list[Mistake], int]:
    """Return images that all checkpoints misclassify, the most confident errors first, and the number of all of them.

    Rows that are no better than the majority-class baseline are excluded.
    """
    # An image that no model classifies correctly may have a wrong label. A model that learned nothing is wrong almost
    # everywhere, and its errors are no evidence of that.
    weak = comparison.no_better_than_majority
    rows = [row for row in comparison.compared if not any(row is other for other in weak)]
    every = [one.answers for row in rows for one in row.checkpoints if one.answers is not None]
    if not every:
        return [], 0
    names = comparison.table.first.dataset.class_names
    wrong = np.flatnonzero(~np.any([answers.right for answers in every], axis=0))
    confidence = np.mean([answers.p_predicted for answers in every], axis=0)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    shown = [
        Mistake(
            image_id=every[0].image_ids[image],
            true=names[every[0].labels[image]],
            answers=", ".join(sorted({names[answers.predicted[image]] for answers in every})),
        )
        for image in wrong[:ALL_WRONG_SHOWN].tolist()
    ]
    return shown, len(wrong)


def audit_view(images: ImageSource) -> dict[str, Any]:
    """Return what the page shows of an audit: skipped files with their reasons, and groups of duplicates."""
    audit = images.audit
    # Leaks first: they change what the test split can show.
    torn = {image_id for ids in audit.across_splits for image_id in ids}
    groups = [("across the given splits", ids) for ids in audit.across_splits]
    for kind, members in (("exact", audit.exact_duplicates), ("near", audit.near_duplicates)):
        groups += [(kind, ids) for ids in members if not torn & {*ids}]
    return {
        "removed": [
            (one.image_id, "" if one.label is None else audit.class_names[one.label], one.reason)
            for one in audit.removed[:REMOVED_SHOWN]
        ],
        "removed_total": len(audit.removed),
        "groups": groups[:GROUPS_SHOWN],
        "groups_total": len(groups),
        "leaking": len(audit.across_splits),
    }


def thumbnails(root: Path, image_ids: Iterable[str]) -> dict[str, str]:
    """Return a data URI for each image; an image that cannot be decoded is omitted."""
    found = {}
    # Without repetitions, as an image may be in several galleries; ``dict`` keeps the order, unlike ``set``.
    with quiet_libraries():
        for image_id in dict.fromkeys(image_ids):
            try:
                found[image_id] = _data_uri(decode(file_of(root, image_id)).image)
            except (UndecodableError, OSError):
                continue
    return found


def _data_uri(image: Image.Image) -> str:
    # JPEG artefacts would hide the content of an image of 8 x 8 px, whose PNG is small anyway.
    small = max(image.size) <= PIXEL_ART_PX
    out = io.BytesIO()
    if not small:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(out, "PNG" if small else "JPEG", quality=75)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
