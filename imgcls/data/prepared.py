"""An audited, split and cached data set: the sources that training and evaluation read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.config import SPLITS
from imgcls.data.audit import Audit
from imgcls.data.decode import Resize
from imgcls.data.loaders import Source
from imgcls.data.splits import Splits
from imgcls.data.stores.choice import Store, open_store
from imgcls.data.stores.files import Pixels
from imgcls.parallel import OnProgress, silent


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The pixels of a data set in the order of its audit, and the rows of each split.

    ``group_of``, ``[N]``, is the group of each image, as in ``Splits.groups``. ``train_pixels`` are those of the train
    split if they are others than those with which models are evaluated; None: the same.
    """

    audit: Audit
    pixels: Pixels
    rows: dict[str, tuple[int, ...]]
    group_of: NDArray[np.int64]
    train_pixels: Pixels | None = None

    def source(self, split: str) -> Source:
        """Return one split."""
        rows = np.array(self.rows[split], dtype=np.int64)
        pixels = self.train_pixels if split == "train" and self.train_pixels is not None else self.pixels
        return Source(pixels=pixels, indices=rows, labels=self.audit.images.labels[rows])

    def groups(self, split: str) -> NDArray[np.int64]:
        """Return the group of each image of a split, ``[N]``: images that are not independent share one."""
        return self.group_of[list(self.rows[split])]

    def leaked(self, split: str) -> NDArray[np.bool_]:
        """Return whether the group of each image of a split is also in an earlier one, ``[N]``."""
        earlier = [self.groups(name) for name in SPLITS[: SPLITS.index(split)]]
        return np.isin(self.groups(split), np.concatenate(earlier) if earlier else [])

    def image_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split's images, in order."""
        return tuple(self.audit.images.ids[list(self.rows[split])].tolist())


def prepare(  # noqa: PLR0913 - two folders in addition to the data
    audit: Audit,
    splits: Splits,
    resize: Resize,
    *,
    root: Path,
    cache: Path,
    store: Store = "pixels",
    progress: OnProgress = silent,
) -> Prepared:
    """Open the pixels of a data set below ``root``; raises the errors of ``open_store``."""
    pixels, train_pixels = open_store(audit, resize, root=root, cache=cache, store=store, progress=progress)
    rows = {split: getattr(splits, split) for split in SPLITS}
    groups = np.array(splits.groups, dtype=np.int64)
    return Prepared(audit=audit, pixels=pixels, rows=rows, group_of=groups, train_pixels=train_pixels)
