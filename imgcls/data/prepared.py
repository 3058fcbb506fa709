"""An audited, split and cached data set: the sources that training and evaluation read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.data.audit import Audit
from imgcls.data.cache import build_cache
from imgcls.data.decode import Resize
from imgcls.data.loaders import Source
from imgcls.data.parallel import OnProgress, silent
from imgcls.data.splits import SPLITS, Splits


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The cached pixels of a data set, uint8 ``[N, S, S, 3]`` in the order of its audit, and the rows of each split."""

    audit: Audit
    pixels: NDArray[np.uint8]
    rows: dict[str, tuple[int, ...]]

    def source(self, split: str) -> Source:
        """Return one split."""
        rows = np.array(self.rows[split], dtype=np.int64)
        labels = np.array([self.audit.images[row].label for row in rows], dtype=np.int64)
        return Source(pixels=self.pixels, indices=rows, labels=labels)

    def groups(self, split: str) -> NDArray[np.int64]:
        """Return the group of each image of a split, ``[N]``: duplicates share one."""
        return np.array([self.audit.images[row].group for row in self.rows[split]], dtype=np.int64)

    def leaked(self, split: str) -> NDArray[np.bool_]:
        """Return whether each image of a split has a duplicate or near-duplicate in an earlier one, ``[N]``."""
        earlier = SPLITS[: SPLITS.index(split)]
        known = {self.audit.images[row].group for name in earlier for row in self.rows[name]}
        return np.array([self.audit.images[row].group in known for row in self.rows[split]], dtype=np.bool_)

    def image_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split's images, in order."""
        return tuple(self.audit.images[row].image_id for row in self.rows[split])


def prepare(  # noqa: PLR0913 - two folders in addition to the data
    audit: Audit, splits: Splits, resize: Resize, *, root: Path, cache: Path, progress: OnProgress = silent
) -> Prepared:
    """Open the pixel cache of a data set below ``root``, or build it; raises the errors of ``build_cache``."""
    pixels = build_cache(audit, resize, root=root, cache=cache, progress=progress)
    return Prepared(audit=audit, pixels=pixels, rows={split: getattr(splits, split) for split in SPLITS})
