"""The data of one run, ready to be trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench import progress
from bench.runs.plan import Task
from imgcls.data.audit import Audit, audit_dataset
from imgcls.data.cache import build_cache
from imgcls.data.loaders import Source
from imgcls.data.sources.named import load_dataset
from imgcls.data.splits import make_splits


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """The cached pixels of a task's data set and the rows of each split."""

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

    def image_ids(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split's images, in order."""
        return tuple(self.audit.images[row].image_id for row in self.rows[split])


def prepare(task: Task, console: Console) -> Prepared:
    """Load, audit, split and cache; all but the first time this only reads."""
    dataset = load_dataset(task.data, cache=task.paths.cache)
    audit = audit_dataset(dataset, cache=task.paths.cache)
    splits = make_splits(audit, task.config.split)
    assert splits.digest == task.dataset.split_digest, "the data changed between the plan and the run"
    with progress.counting(console, f"caching {task.spec.resize.size} px") as advance:
        pixels = build_cache(audit, task.spec.resize, root=dataset.root, cache=task.paths.cache, progress=advance)
    return Prepared(audit=audit, pixels=pixels, rows={"train": splits.train, "val": splits.val, "test": splits.test})
