"""Preparation of the data of one run."""

from bench import progress
from bench.runs.plan import Task
from imgcls.data import prepared
from imgcls.data.audit import audit_dataset
from imgcls.data.prepared import Prepared
from imgcls.data.sources.named import load_dataset
from imgcls.data.splits import make_splits


def prepare(task: Task) -> Prepared:
    """Load, audit, split and cache the data of a task; a stored audit and cache are read."""
    dataset = load_dataset(task.data, labels=task.labels, cache=task.paths.cache)
    audit = audit_dataset(dataset, cache=task.paths.cache)
    splits = make_splits(audit, task.config.split)
    assert splits.digest == task.dataset.split_digest, "the data changed between the plan and the run"
    count, resize = progress.counting(f"caching {task.spec.resize.size} px"), task.spec.resize
    return prepared.prepare(audit, splits, resize, root=dataset.root, cache=task.paths.cache, progress=count)
