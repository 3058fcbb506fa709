"""A short training of a task's network on random images, and what it took."""

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from bench.records.environment import peak_memory_bytes, watch_others
from bench.records.paths import Paths
from bench.runs import execution
from bench.runs.plan import Task
from imgcls.data.audit import Audit
from imgcls.data.auditing.images import AuditedImage, Images
from imgcls.data.prepared import Prepared
from imgcls.errors import ParityError
from imgcls.training.checkpoints import STATE_FILE
from imgcls.training.events import EpochResult, HeadFit, Rung, Step

STEPS: Final = 20
"""Steps that are made; the first quarter, in which libraries choose kernels, is not counted."""

EVALUATED: Final = 128
"""Random images of val and of test."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """What a short run took, in seconds and bytes.

    ``start_s`` is the time from the start of the process to the training; ``step_s`` are single steps, without the
    first ones; ``eval_image_s`` is per image of val, ``head_image_s`` per image of the classifier pre-fit (0 without
    one); ``finish_s`` is for predictions of few images, export and its check. ``disk_bytes`` are a run's artifacts,
    ``state_bytes`` the checkpoint that it needs while it trains. ``others_share`` is the share of the CPU that other
    processes used.
    """

    start_s: float
    step_s: tuple[float, ...]
    eval_image_s: float
    head_image_s: float
    finish_s: float
    memory_bytes: int
    disk_bytes: int
    state_bytes: int
    others_share: float


class _Watch:
    """Receives the events of a training: the duration of each step, of an evaluated and of a fitted image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps, self.head_image_s, self.eval_image_s, self.state_bytes = list[float](), 0.0, 0.0, 0
        self._seconds = 0.0

    def __call__(self, event: Step | Rung | EpochResult | HeadFit) -> None:
        if isinstance(event, Step):
            self.steps.append(event.train_time_s - self._seconds)
            self._seconds = event.train_time_s
        elif isinstance(event, HeadFit):
            self.head_image_s = event.head_time_s / event.images
        elif isinstance(event, EpochResult):
            self.eval_image_s, self._seconds = event.eval_time_s / EVALUATED, 0.0
            if not self.steps:  # the fit of the classifier alone
                self.head_image_s = event.train_time_s / event.images
            state = self.folder / STATE_FILE
            self.state_bytes = state.stat().st_size if state.exists() else 0


def probe(task: Task, folder: Path) -> Probed:
    """Train the network of a task on random images in ``folder``, and export it; raises the errors of a training."""
    whole = task.config.train
    images = STEPS * task.config.loader.batch_size
    budget = None if whole.tune_layers == "head" else f"images={images}"
    config = replace(task.config, train=replace(whole, budget=budget, imbalance="none"))
    short = replace(
        task, config=config, paths=Paths(results=folder, cache=folder), adjusts=None, ensemble=None, force=False
    )
    data = _random_images(task, images)
    artifacts = short.paths.artifacts(short.train_id)
    artifacts.mkdir(parents=True, exist_ok=True)
    watch, others = _Watch(artifacts), watch_others()
    start_s = time.time() - psutil.Process().create_time()
    execution.fit(short, train_source=data.source("train"), val_source=data.source("val"), report=watch)
    trained = time.perf_counter()
    # The training is finished, so that this evaluates, exports and checks only. After 20 steps on random images, a deep
    # network may give no more than rounding errors, of which the check must not make an estimate depend.
    with contextlib.suppress(ParityError):
        execution.run_one(short, data)
    return Probed(
        start_s=start_s,
        step_s=tuple(watch.steps[len(watch.steps) // 4 :]),
        eval_image_s=watch.eval_image_s,
        head_image_s=watch.head_image_s,
        finish_s=time.perf_counter() - trained,
        memory_bytes=peak_memory_bytes(),
        disk_bytes=sum(file.stat().st_size for file in artifacts.iterdir() if file.name != STATE_FILE),
        state_bytes=watch.state_bytes,
        others_share=others()[0],
    )


def _random_images(task: Task, images: int) -> Prepared:
    """Return random pixels, of all classes alike, as the splits of a data set."""
    counts = {"train": images, "val": EVALUATED, "test": EVALUATED}
    total, size, names = sum(counts.values()), task.spec.resize.size, task.dataset.class_names
    pixels = np.random.default_rng(0).integers(0, 256, (total, size, size, 3), dtype=np.uint8)
    audit = Audit(
        name="random",
        digest="",
        class_names=names,
        given_splits=False,
        images=Images.of(
            AuditedImage(
                image_id=f"{index}.png", label=index % len(names), split=None, pixel_digest="", group=index, notes=()
            )
            for index in range(total)
        ),
        removed=(),
        exact_duplicates=(),
        near_duplicates=(),
        near_conflicts=(),
        across_splits=(),
        broken_groups=0,
        too_small_to_search=0,
    )
    starts = np.cumsum([0, *counts.values()])
    rows = {
        name: tuple(range(start, start + count)) for (name, count), start in zip(counts.items(), starts, strict=False)
    }
    return Prepared(audit=audit, pixels=pixels, rows=rows, group_of=np.arange(total))
