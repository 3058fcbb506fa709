"""Synthetic audits."""

from imgcls.data.audit import Audit
from imgcls.data.auditing.images import AuditedImage, Images


def audit_of(groups: list[list[int]], *, splits: list[str] | None = None, classes: int | None = None) -> Audit:
    """Return an audit in which group g contains one image for each label in ``groups[g]``."""
    images = []
    for group, labels in enumerate(groups):
        for label in labels:
            number = len(images)
            images.append(
                AuditedImage(
                    image_id=f"{number:05d}",
                    label=label,
                    split=splits[group] if splits else None,
                    pixel_digest=f"{number:x}",
                    group=group,
                    notes=(),
                )
            )
    count = classes or 1 + max(image.label for image in images)
    return Audit(
        name="made-up",
        digest="d",
        class_names=tuple(f"class {label}" for label in range(count)),
        given_splits=splits is not None,
        images=Images.of(images),
        removed=(),
        exact_duplicates=(),
        near_duplicates=(),
        near_conflicts=(),
        across_splits=(),
        broken_groups=0,
        too_small_to_search=0,
    )
