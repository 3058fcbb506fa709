"""A trained model as one ONNX file that needs nothing else, and the proof that it gives the same logits."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from imgcls.checkpoint import write_aside
from imgcls.data.loaders import Source
from imgcls.errors import ParityError
from imgcls.evaluation import Predictions, predict_all
from imgcls.metrics import top1_accuracy
from imgcls.models import ModelSpec
from imgcls.predict import CARD_KEY, CARD_VERSION, Card, open_classifier
from imgcls.results import Flip, Parity

OPSET: Final = 20
MAX_REL_LOGIT_ERROR: Final = 1e-4
MAX_REL_LOGIT_ERROR_TF32: Final = 1e-2
PARITY_BATCH: Final = 32


def export_onnx(model: nn.Module, spec: ModelSpec, *, class_names: tuple[str, ...], path: Path) -> None:
    """Write a checked ONNX file with a dynamic batch and its card in the metadata.

    ``model`` is on the CPU, in eval mode, without an auxiliary head.
    """
    size = spec.resize.size
    example = torch.zeros(2, 3, size, size)
    with _quiet():
        program = torch.onnx.export(
            model.to(memory_format=torch.contiguous_format),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=2**16)},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # tracebacks with this machine's folders, half of a small file
    card = Card(
        version=CARD_VERSION,
        model=spec.name,
        weights_tag=spec.weights.tag,
        class_names=class_names,
        resize=spec.resize,
        mean=spec.normalisation.mean,
        std=spec.normalisation.std,
    )
    onnx.helper.set_model_props(proto, {CARD_KEY: msgspec.json.encode(card).decode()})
    onnx.checker.check_model(proto, full_check=True)
    write_aside(path, lambda aside: onnx.save(proto, str(aside)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def check_parity(path: Path, source: Source, trained: Predictions, *, tf32: bool = False) -> Parity:
    """Compare the exported model with the trained one's logits on every image of a split.

    Raises ParityError where an error is over the limit, or a flip is larger than the error explains.
    """
    exported = _exported_logits(path, source)
    error = float(np.abs(exported - trained.logits).max())
    scale = float(np.abs(trained.logits).max())
    relative = error / scale if scale else error
    limit = MAX_REL_LOGIT_ERROR_TF32 if tf32 else MAX_REL_LOGIT_ERROR
    if not relative <= limit:
        message = f"the ONNX model's logits are off by {relative:.1e} of their scale (limit {limit:.0e})"
        raise ParityError(message)
    flips = _flips(exported, trained)
    if wide := [flip for flip in flips if flip.margin > 2 * error]:
        message = f"the ONNX model turns {wide[0].image_id} although its margin exceeds twice the logit error"
        raise ParityError(message)
    return Parity(
        max_rel_logit_error=relative,
        top1_agreement=1 - len(flips) / len(trained.labels),
        flips=flips,
        test_top1_accuracy=top1_accuracy(exported, trained.labels),
    )


def _exported_logits(path: Path, source: Source) -> NDArray[np.float32]:
    classifier = open_classifier(path)
    starts = range(0, len(source), PARITY_BATCH)
    return predict_all(
        classifier.logits, (source.pixels[source.indices[start : start + PARITY_BATCH]] for start in starts)
    )


def _flips(exported: NDArray[np.float32], trained: Predictions) -> tuple[Flip, ...]:
    top_two = np.sort(trained.logits, axis=1)[:, -2:]
    turned = np.flatnonzero(exported.argmax(axis=1) != trained.logits.argmax(axis=1))
    return tuple(Flip(image_id=trained.image_ids[i], margin=float(top_two[i, 1] - top_two[i, 0])) for i in turned)
