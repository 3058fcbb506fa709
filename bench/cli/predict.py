"""The command predict, which does not load torch."""

import contextlib
import csv
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.markup import escape as as_text
from rich.table import Table

from bench.cli.arguments import PredictArgs
from bench.progress import counting
from bench.render.escaping import cell
from imgcls.data.decode import quiet_libraries
from imgcls.data.sources.file_names import escape
from imgcls.data.sources.photos import list_photos
from imgcls.errors import ConfigError
from imgcls.inference.predict import PhotoPrediction, classify
from imgcls.parallel import silent

LOGGER = logging.getLogger(__name__)

Write = Callable[[PhotoPrediction], object]
"""Receives the predictions one by one, in order."""


def show_predictions(args: PredictArgs, console: Console) -> int:
    """Write the prediction of each model for each photo; return 1 if a photo cannot be used."""
    models, inputs = _divided(args.paths)
    if args.csv and args.json:
        message = "--csv and --json exclude each other: give one of the two"
        raise ConfigError(message)
    photos = list_photos(inputs)
    total = len(photos) * len(models)
    writer = _csv_lines(args.top_k) if args.csv else _json_lines() if args.json else _table(console, models)
    # On a terminal that shows the data a bar would overwrite it.
    progress = silent if args.data_only and os.isatty(1) else counting("predicting")
    failed = 0
    # Quiet here and not in the library: between two photos, its generator must not keep the caller's standard error.
    with quiet_libraries(), contextlib.closing(classify(models, photos, top_k=args.top_k)) as predictions:
        try:
            with writer as write:
                for done, prediction in enumerate(predictions, 1):
                    write(prediction)
                    failed += prediction.error is not None
                    progress(done, total)
        except BrokenPipeError:  # its reader has enough, as ``head`` has
            return 1
    if failed:
        LOGGER.warning("%d of %d predictions failed; their rows give the reasons", failed, total)
    return 1 if failed else 0


def _divided(paths: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    """Return the models, which come first, and the other inputs."""
    count = next((index for index, path in enumerate(paths) if path.suffix.lower() != ".onnx"), len(paths))
    if not 0 < count < len(paths):
        missing = "a photo after the models" if count else "a model before the photos"
        message = f"predict needs {missing}: python -m bench predict MODEL.onnx... IMAGE..."
        raise ConfigError(message)
    # A model that is named twice would only repeat its predictions.
    return tuple(dict.fromkeys(paths[:count])), paths[count:]


@contextlib.contextmanager
def _table(console: Console, models: Sequence[Path]) -> Iterator[Write]:
    """Collect the predictions, and print them as a table at the end."""
    # The paths of models would leave the other columns no width; the numbers are explained below the table.
    numbers = {str(model): str(number) for number, model in enumerate(models, 1)}
    table = Table("Image", *(["Model"] if len(models) > 1 else []), "Class", "Probability")
    table.columns[0].overflow = "fold"
    reasons = dict[str, str | None]()

    def write(predicted: PhotoPrediction) -> None:
        reasons[predicted.model] = predicted.uncalibrated_reason
        # Escaped, because cells of a table are always read as markup.
        names = [as_text(escape(predicted.photo)), numbers[predicted.model]][: 2 if len(models) > 1 else 1]
        if predicted.error is not None:
            table.add_row(*names, f"failed: {as_text(predicted.error)}", "-")
        for rank, (class_name, probability) in enumerate(predicted.predictions):
            table.add_row(*(["" for _ in names] if rank else names), as_text(class_name), f"{probability:.3f}")

    yield write
    console.print(table)
    for name, number in numbers.items():
        parts = [f"model {number}", escape(name)] if len(numbers) > 1 else [escape(name)]
        if reasons[name] is not None:
            parts.append(f"probabilities not calibrated: {reasons[name]}")
        if len(parts) > 1:
            console.print(": ".join(parts), markup=False)


@contextlib.contextmanager
def _csv_lines(top_k: int) -> Iterator[Write]:
    """Write the predictions as CSV."""
    ranks = range(1, top_k + 1)
    ranked = [name for rank in ranks for name in (f"class_{rank}", f"probability_{rank}")]
    with _standard_output() as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image", "model", *ranked, "calibrated", "error", "uncalibrated_reason"])

        def write(predicted: PhotoPrediction) -> None:
            cells = [part for prediction in predicted.predictions for part in prediction] or [""] * len(ranked)
            names = [escape(predicted.photo), escape(predicted.model)]
            reasons = [predicted.error or "", predicted.uncalibrated_reason or ""]
            writer.writerow(map(cell, [*names, *cells, str(predicted.calibrated).lower(), *reasons]))

        yield write


@contextlib.contextmanager
def _json_lines() -> Iterator[Write]:
    """Write the predictions as JSON, an object in a line."""
    with _standard_output() as out:

        def write(predicted: PhotoPrediction) -> None:
            fields: dict[str, object] = {"image": escape(predicted.photo), "model": escape(predicted.model)}
            if predicted.error is not None:
                fields |= {"error": predicted.error}
            else:
                ranked = [{"class": name, "probability": share} for name, share in predicted.predictions]
                fields |= {"predictions": ranked, "calibrated": predicted.calibrated}
                if predicted.uncalibrated_reason is not None:
                    fields |= {"uncalibrated_reason": predicted.uncalibrated_reason}
            out.write(json.dumps(fields, ensure_ascii=False, allow_nan=False) + "\n")

        yield write


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Open standard output for data: as UTF-8, and flushed after each line."""
    with open(os.dup(1), "w", encoding="utf-8", newline="", buffering=1) as out:  # noqa: PTH123 - a descriptor has no path
        yield out
