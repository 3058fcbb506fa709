"""One version's code as a process that does short pieces of work on request; ``versions.py`` starts and asks it.

The file is the head's, what it imports is the version's whose tree it is started in.
A line in, ``{"prepare": CASE}``, ``{"case": CASE, "repetitions": N}`` or ``{"label": [FILES]}``; a line of JSON out.
"""

import importlib
import inspect
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

THREADS: Final = 1
NOT_THERE: Final = (ImportError, AttributeError, TypeError)
"""What a version raises that does not have what a case calls, or has it with other arguments."""
SIZE: Final = 64
"""Side of the square pictures, in pixels."""

Work = Callable[[], object]


def _load(*places: str) -> Any:
    """Return the first of ``module:name`` that this version has: its place today, then where it was before.

    The older places bridge the one base that has its modules side by side; they go when no base lacks the packages.
    """
    missing: list[Exception] = []
    for place in places:
        module, name = place.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            missing.append(error)
    raise missing[0]


def _pixels(count: int) -> Any:
    """Return noise uint8 ``[N, S, S, 3]``."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def decode_jpeg(folder: Path, _model: Path) -> Work:
    """Decode and resize a smooth JPEG of 512 x 384, the size of TrashNet's photos."""
    from PIL import Image

    from imgcls.data.decode import Resize, load_square

    path = folder / "photo.jpg"
    Image.fromarray(_pixels(1)[0]).resize((512, 384), Image.Resampling.BICUBIC).save(path, quality=92)
    return partial(load_square, path, Resize(size=224, interpolation="bicubic"))


def preprocess_batch(_folder: Path, model: Path) -> Work:
    """Normalise 32 pictures for ONNX."""
    preprocess = _load("imgcls.inference.card:preprocess", "imgcls.predict:preprocess")
    open_classifier = _load("imgcls.inference.predict:open_classifier", "imgcls.predict:open_classifier")
    return partial(preprocess, _pixels(32), open_classifier(model, threads=THREADS).card)


def _source(count: int) -> Any:
    import numpy as np

    from imgcls.data.loaders import Source

    rows = np.arange(count)
    return Source(pixels=_pixels(count), indices=rows, labels=rows % 6)


def augment_epoch(_folder: Path, _model: Path) -> Work:
    """Go once through 64 augmented pictures."""
    import torch

    from imgcls.data.augment import Normalisation
    from imgcls.data.loaders import train_batches

    source, plain = _source(64), Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def work() -> None:
        generator = torch.Generator().manual_seed(0)
        device = torch.device("cpu")
        for _ in train_batches(source, batch_size=32, normalisation=plain, device=device, generator=generator):
            pass

    return work


def predict(_folder: Path, model: Path, *, batch_size: int) -> Work:
    """Pictures to logits in ONNX, normalising included."""
    open_classifier = _load("imgcls.inference.predict:open_classifier", "imgcls.predict:open_classifier")
    return partial(open_classifier(model, threads=THREADS).logits, _pixels(batch_size))


def train_epoch(folder: Path, _model: Path) -> Work:
    """Train the smallest model for two batches, validate, and save the checkpoints."""
    import torch

    from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
    from imgcls.models.building import build_model
    from imgcls.models.registry import resolve_spec
    from imgcls.models.weights import random_weights
    from imgcls.training.loop import train

    plan_class = _load("imgcls.training.plan:TrainingPlan", "imgcls.training.setup:TrainingSetup")
    loader = LoaderConfig(image_size=SIZE, batch_size=16)
    spec = resolve_spec("test_efficientnet", loader, random_weights)
    model = build_model(spec, ArchitectureConfig(), num_classes=6)
    before = {"structure": spec.structure, "normalisation": spec.normalisation, "device": torch.device("cpu")}
    plan = plan_class(
        num_classes=6,
        train_source=_source(32),
        val_source=_source(4),
        loader=loader,
        architecture=ArchitectureConfig(),
        train=TrainConfig(epochs=1, device="cpu"),
        seed=0,
        folder=folder,
        report=lambda _event: None,
        **({"spec": spec} if plan_class.__name__ == "TrainingPlan" else before),
    )

    def work() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            train(model, replace(plan, folder=Path(fresh)))

    return work


def render_leaderboard(folder: Path, _model: Path) -> Work:
    """Make the leaderboard of 30 records."""
    record_path = _load("bench.records.store:record_path", "bench.records:record_path")
    write_json = _load("bench.records.store:write_json", "bench.records:write_json")
    write = _load("bench.leaderboard.page:write", "bench.leaderboard:write")
    record = _load("tests.helpers.examples:record", "tests.examples:record")
    results = folder / "records-of-30"
    for number in range(30):
        config = replace(record().config, model=f"model {number}")
        made = record(accuracy=number / 30, config=config, run_id=f"{number:016x}")
        write_json(made, record_path(results, made))
    # Earlier versions take the folder itself.
    where = (
        _load("bench.records.paths:Paths")(results=results)
        if "paths" in inspect.signature(write).parameters
        else results
    )

    def work() -> None:
        # A version with an index would otherwise read what the last repetition has made.
        (results / ".index").unlink(missing_ok=True)
        write(where)

    return work


Case = Callable[[Path, Path], Work]
"""From a folder to write in and the base's ONNX model: prepares, and gives the work that is timed."""
CASES: Final[dict[str, Case]] = {
    "decode and resize a JPEG": decode_jpeg,
    "preprocess a batch": preprocess_batch,
    "augmented batches": augment_epoch,
    "ONNX inference, batch 1": partial(predict, batch_size=1),
    "ONNX inference, batch 8": partial(predict, batch_size=8),
    "training epoch": train_epoch,
    "leaderboard": render_leaderboard,
}
"""What is timed, by name; another is a function above and a line here."""


def label(model: Path, photos: list[str]) -> list[str]:
    """Label photos as ``python -m bench predict`` does: the version's own decode, preprocess and session."""
    classify = _load("imgcls.inference.predict:classify", "imgcls.predict:classify")
    return [answer.class_name for answer in classify(model, [Path(photo) for photo in photos])]


def timed(work: Work, repetitions: int) -> dict[str, float]:
    """Seconds of all repetitions: by the clock, and of CPU time in all threads of this process."""
    pin()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repetitions):
        work()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def prepare(name: str, ready: dict[str, Work], folder: Path, model: Path) -> dict[str, str]:
    """Make a case ready and run it once to warm up, or say what this version lacks."""
    try:
        ready[name] = CASES[name](folder, model)
        ready[name]()
    except NOT_THERE as error:
        return {"not_there": f"{type(error).__name__}: {error}"}
    return {}


def answer(request: dict[str, Any], ready: dict[str, Work], folder: Path, model: Path) -> dict[str, Any]:
    """Carry out one request."""
    if "label" in request:
        return {"labels": label(model, request["label"])}
    if "prepare" in request:
        return dict(prepare(request["prepare"], ready, folder, model))
    return dict(timed(ready[request["case"]], request["repetitions"]))


def pin() -> None:
    """Stay on one core, the same for both versions: cores differ in what else runs on them."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def check_tree(tree: Path) -> None:
    """Make sure that both packages are this version's, and not those of the environment."""
    import bench
    import imgcls

    for package in (imgcls, bench):
        if not Path(str(package.__file__)).resolve().is_relative_to(tree):
            message = f"{package.__name__} was imported from elsewhere than the version's own tree"
            raise ImportError(message)


def main() -> None:
    """Answer requests until stdin ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tree, model = (Path(argument).resolve() for argument in sys.argv[1:])
    check_tree(tree)
    ready: dict[str, Work] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), ready, folder, model)), file=answers, flush=True)


if __name__ == "__main__":
    main()
