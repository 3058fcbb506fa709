"""Every family of timm, end to end: ``python -m tests.benchmarks.families OUT [--only NAME ...]``.

The smallest model of each of timm's modules is fine-tuned by the recipe ``finetune`` for one epoch on 60 photos, from
made-up pre-trained weights of the real names and shapes, then exported, checked, used for prediction, and fitted with
frozen features: at 96 px if it can have that size, else at the size that its refusal names. Models of more than 60
million parameters or 400 px are built from their weights, exported and checked on random images only. Results are kept
in OUT, a folder, and not repeated; those of all are written to docs/models.md.
"""

import argparse
import json
import logging
import multiprocessing
import shutil
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch

import imgcls
from bench.recipes import finetune
from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig
from imgcls.errors import ConfigError, ImageSizeError
from imgcls.files import write_text
from imgcls.inference.export import export_onnx
from imgcls.inference.runtimes import ONNX, open_session
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import build_model, load_deployed, load_trained, save_trained, storable
from imgcls.models.registry import ModelSpec, resolve_spec, weights_policy
from tests.helpers.images import smooth_image
from tests.helpers.weights import write_pretrained

WANTED_PX: Final = 96
LARGE_PX: Final = 400
LARGE_PARAMS: Final = 60e6
CLASSES: Final = ("ash", "birch", "cedar")
PHOTOS: Final = 20
"""Photos of each class."""
WORKERS: Final = 2
DOCUMENT: Final = Path("docs/models.md")


INTRODUCTION: Final = """\
The smallest model of each of timm's modules, by `nox -s families` (timm {timm}, torch {torch}), from made-up weights
with the names and shapes of its pre-trained ones: fine-tuned by the recipe `finetune` for one epoch on 60 photos,
exported, compared with the trained network, used for prediction, and fitted with frozen features. Models of more than
60 million parameters or 400 px are built, exported and compared on random images only (marked \\*).

Of {modules} modules, {tried} were tried. {accepted} can have 96 px; {refused} are refused it before training, in one
line that names the size in the table. At that size, {runs} of {tried} run ({share:.0%})."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a model did: seconds of each step that succeeded, and the reason of the one that failed."""

    module: str
    model: str
    num_params: int
    image_size: int = 0
    refused: str | None = None
    """The refusal of 96 px."""
    classifier_fit: str = ""
    merged: bool = False
    """Whether branches of the training are merged for export."""
    steps: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def smallest() -> dict[str, tuple[str, int]]:
    """Return the smallest model of each module of timm, with its number of parameters."""
    members = {}
    for module in timm.list_modules():
        counts = {name: _num_params(name) for name in timm.list_models(module=module)}
        if counts:
            name = min(counts, key=lambda name: counts[name])
            members[module] = (name, counts[name])
    return members


def _num_params(name: str) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name, pretrained=False).parameters())


def run(result: Result) -> Result:
    """Carry out all steps of a model in a temporary folder."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    home = Path(tempfile.mkdtemp(prefix="families-"))
    try:
        return _carried_out(result, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _carried_out(result: Result, home: Path) -> Result:
    weights = write_pretrained(home / "weights", result.model)
    try:
        spec, refused = _sized(result.model, weights)
    except ConfigError as error:
        return replace(result, error=str(error))
    large = result.num_params > LARGE_PARAMS or spec.resize.size > LARGE_PX
    result = replace(result, image_size=spec.resize.size, refused=refused)
    models: list[imgcls.FineTuned] = []
    work = _exported(spec, home) if large else _trained(spec, weights, home, models)
    done: dict[str, float] = {}
    for name, step in work:
        started = time.perf_counter()
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever fails is the result
            reason = (str(error).splitlines() or [""])[0]
            return replace(result, steps=done, error=f"{name}: {type(error).__name__}: {reason[:200]}")
        done[name] = round(time.perf_counter() - started, 1)
    before, after = (sum(1 for _ in load(home / "run" / WEIGHTS).modules()) for load in (load_trained, load_deployed))
    planned = "linear" if spec.structure.heads else "gradient"
    fit = models[0].training.classifier_fit if models else planned
    return replace(result, steps=done, merged=before != after, classifier_fit=fit)


def _sized(model: str, weights: Path) -> tuple[ModelSpec, str | None]:
    policy = weights_policy(str(weights), [model])
    try:
        return resolve_spec(model, LoaderConfig(image_size=WANTED_PX), policy), None
    except ImageSizeError as error:
        return resolve_spec(model, LoaderConfig(image_size=error.nearest), policy), str(error)


Steps = Iterable[tuple[str, Callable[[], object]]]


def _trained(spec: ModelSpec, weights: Path, home: Path, models: list[imgcls.FineTuned]) -> Steps:
    """Yield the steps of a training, which puts its model into ``models``."""
    photos = home / "photos"
    for number, name in enumerate(CLASSES):
        (photos / name).mkdir(parents=True)
        for photo in range(PHOTOS):
            smooth_image(number * PHOTOS + photo).save(photos / name / f"{photo}.png")
    dataset = imgcls.load_dataset(str(photos))
    audit = imgcls.audit_dataset(dataset, cache=home / "cache")
    splits = imgcls.make_splits(audit)
    loader, recipe = LoaderConfig(image_size=spec.resize.size, batch_size=16), finetune(spec.name).train

    def fine_tune(train: TrainConfig, folder: str) -> imgcls.FineTuned:
        return imgcls.fine_tune(
            spec.name,
            dataset,
            audit,
            splits,
            folder=home / folder,
            weights=str(weights),
            loader=loader,
            train=replace(train, device="cpu", train_threads=1, precision="fp32"),
            cache=home / "cache",
        )

    yield "train", lambda: models.append(fine_tune(replace(recipe, epochs=1), "run"))
    yield "evaluate", lambda: imgcls.evaluate(models[0])
    yield "export, check", lambda: imgcls.export(models[0])
    images = [photos / name / "0.png" for name in CLASSES]
    yield "predict", lambda: [answer.class_name for answer in imgcls.classify(home / "run" / ONNX, images)]
    frozen = replace(TrainConfig(), tune_layers="head", norm="frozen", augmentation="crop")
    yield "frozen features", lambda: fine_tune(frozen, "frozen")


def _exported(spec: ModelSpec, home: Path) -> Steps:
    folder = home / "run"
    folder.mkdir()

    def build() -> None:
        torch.manual_seed(0)
        model = build_model(spec, ArchitectureConfig(), num_classes=len(CLASSES))
        save_trained(storable(model), spec, num_classes=len(CLASSES), path=folder / WEIGHTS)

    def export() -> None:
        export_onnx(load_deployed(folder / WEIGHTS), spec, class_names=CLASSES, path=folder / ONNX)

    def check() -> None:
        px = spec.resize.size
        images = np.random.default_rng(0).standard_normal((2, 3, px, px), dtype=np.float32)
        with torch.inference_mode():
            expected = load_trained(folder / WEIGHTS)(torch.from_numpy(images)).numpy()
        logits = open_session("onnxruntime-cpu", folder, threads=1).run(images)
        error = float(np.abs(logits - expected).max() / np.abs(expected).max())
        if not error <= 1e-4:
            message = f"the logits differ by {error:.1e} of the largest"
            raise RuntimeError(message)

    return [("build", build), ("export", export), ("check", check)]


def table(results: Iterable[Result]) -> str:
    """Return the document of all results."""
    every = sorted(results, key=lambda result: result.module)
    tried = [one for one in every if one.steps or one.error]
    failed, refused = [one for one in every if one.error], [one for one in every if one.refused]
    text = INTRODUCTION.format(
        timm=timm.__version__,
        torch=torch.__version__.split("+")[0],
        modules=len(every),
        tried=len(tried),
        accepted=len(tried) - len(refused),
        refused=len(refused),
        runs=len(tried) - len(failed),
        share=1 - len(failed) / max(len(tried), 1),
    )
    lines = [
        "# Models",
        *("\n".join(["", *textwrap.wrap(paragraph, 120)]) for paragraph in text.split("\n\n")),
        "",
        "| Module | Model | Params (M) | px | 96 px | Classifier fit | Merged | Result |",
        "| --- | --- | --: | --: | --- | --- | --- | --- |",
    ]
    lines += [_line(one) for one in every]
    return "\n".join(lines) + "\n"


def _line(result: Result) -> str:
    large = " \\*" if "build" in result.steps else ""
    outcome = f"failed: `{result.error}`".replace("|", "\\|") if result.error else "ok" if result.steps else "not tried"
    cells = (
        f"`{result.module}`",
        f"`{result.model}`{large}",
        f"{result.num_params / 1e6:.1f}",
        str(result.image_size or "-"),
        "refused" if result.refused else "yes" if result.image_size == WANTED_PX else "-",
        result.classifier_fit or "-",
        "yes" if result.merged else "-",
        outcome,
    )
    return f"| {' | '.join(cells)} |"


def main(out: Path, only: list[str]) -> int:
    """Carry out what is not done, and write the document."""
    out.mkdir(parents=True, exist_ok=True)
    listing = out / "smallest.json"
    if not listing.exists():
        write_text(json.dumps(smallest()), listing)
    members: dict[str, tuple[str, int]] = json.loads(listing.read_text())
    if only:
        waiting = [Result(module="-", model=name, num_params=_num_params(name)) for name in only]
    else:
        every = [Result(module=module, model=name, num_params=count) for module, (name, count) in members.items()]
        # The large ones last: what is stopped early has done most families.
        waiting = sorted((one for one in every if not _file(out, one.model).exists()), key=lambda one: one.num_params)
    for result in results_of(waiting):
        print(_line(result), flush=True)  # noqa: T201 - the output of this command
        if not only:
            write_text(json.dumps(asdict(result)), _file(out, result.model))
            write_document(out, members)
    if only:
        return 0
    write_document(out, members)
    return 0


def write_document(out: Path, members: dict[str, tuple[str, int]]) -> None:
    """Write the results that there are; a model without one is a line, too."""
    results = []
    for module, (name, count) in members.items():
        file = _file(out, name)
        known = Result(**json.loads(file.read_text())) if file.exists() else None
        results.append(known or Result(module=module, model=name, num_params=count))
    write_text(table(results), DOCUMENT)


def _file(out: Path, model: str) -> Path:
    return out / f"{model}.json"


def results_of(waiting: list[Result]) -> Iterable[Result]:
    """Yield results as they end; a model whose process is killed is a result too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imgcls.pipeline", "bench.recipes", "tests.helpers.weights"])
    while waiting:
        with ProcessPoolExecutor(WORKERS, mp_context=context, max_tasks_per_child=1) as pool:
            futures = {pool.submit(run, one): one for one in waiting}
            for future in as_completed(futures):
                one = futures[future]
                try:
                    result = future.result()
                except BrokenProcessPool:
                    break  # all that had not ended are lost, whichever was killed
                except Exception as error:  # noqa: BLE001 - as in ``run``
                    result = replace(one, error=f"{type(error).__name__}: {error}")
                waiting.remove(one)
                yield result
            else:
                continue
        killed = waiting.pop(0)
        yield replace(killed, error="the process was killed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    arguments: Any = parser.parse_args()
    sys.exit(main(arguments.out, arguments.only))
