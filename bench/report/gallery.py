"""What models get wrong, and what the audit found, with thumbnails where the images are at hand."""

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
from imgcls.data.decode import UndecodableError, decode

WRONG_SHOWN: Final = 24
"""Mistakes of each row's first seed, the most confident first."""

ALL_WRONG_SHOWN: Final = 48

GROUPS_SHOWN: Final = 40

REMOVED_SHOWN: Final = 200

THUMBNAIL_PX: Final = 96

PIXEL_ART_PX: Final = 32
"""Smaller pictures are kept whole, without loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """One wrong answer."""

    image_id: str
    true: str
    answers: str


def mistakes(comparison: Comparison) -> list[tuple[str, list[Mistake]]]:
    """Return each row's wrong answers by its first seed, with a title, the most confident first."""
    return [_mistakes_of(row, comparison.table.first.dataset.class_names) for row in comparison.compared]


def _mistakes_of(row: Row, names: Sequence[str]) -> tuple[str, list[Mistake]]:
    answers = row.checkpoints[0].answers
    assert answers is not None
    wrong = np.flatnonzero(~answers.right)
    worst = wrong[np.argsort(-answers.p_predicted[wrong], kind="stable")][:WRONG_SHOWN]
    shown = [
        Mistake(
            image_id=answers.image_ids[image],
            true=names[answers.labels[image]],
            answers=f"{names[answers.predicted[image]]} ({100 * answers.p_predicted[image]:.0f} %)",
        )
        for image in worst.tolist()
    ]
    return f"{row.name}, seed {row.checkpoints[0].seed}: {len(wrong)} wrong", shown


def wrong_by_all(comparison: Comparison) -> tuple[list[Mistake], int]:
    """List images that every checkpoint gets wrong, and count them: their labels may be what is wrong."""
    every = [one.answers for entry in comparison.compared for one in entry.checkpoints if one.answers is not None]
    if not every:
        return [], 0
    names = comparison.table.first.dataset.class_names
    rows = np.flatnonzero(~np.any([answers.right for answers in every], axis=0))
    shown = [
        Mistake(
            image_id=every[0].image_ids[row],
            true=names[every[0].labels[row]],
            answers=", ".join(sorted({names[answers.predicted[row]] for answers in every})),
        )
        for row in rows[:ALL_WRONG_SHOWN].tolist()
    ]
    return shown, len(rows)


def audit_view(images: ImageSource) -> dict[str, Any]:
    """Return an audit as data: skipped files and reasons, and groups of images that show one picture."""
    audit = images.audit
    groups = [("exact", ids) for ids in audit.exact_duplicates] + [("near", ids) for ids in audit.near_duplicates]
    return {
        "removed": [(one.image_id, audit.class_names[one.label], one.reason) for one in audit.removed[:REMOVED_SHOWN]],
        "removed_total": len(audit.removed),
        "groups": groups[:GROUPS_SHOWN],
        "groups_total": len(groups),
    }


def thumbnails(root: Path, image_ids: Iterable[str]) -> dict[str, str]:
    """Return each picture as a data URI; one that cannot be decoded is skipped, as by the audit."""
    found = {}
    for image_id in dict.fromkeys(image_ids):
        try:
            found[image_id] = _data_uri(decode(root / image_id).image)
        except (UndecodableError, OSError):
            continue
    return found


def _data_uri(image: Image.Image) -> str:
    small = max(image.size) <= PIXEL_ART_PX
    out = io.BytesIO()
    if not small:
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    image.save(out, "PNG" if small else "JPEG", quality=75)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
