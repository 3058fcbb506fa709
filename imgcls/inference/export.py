"""A trained model as one ONNX file that needs nothing else."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import onnx
import torch
from torch import nn

from imgcls.files import write_aside
from imgcls.inference.card import CARD_KEY, CARD_VERSION, OPSET, Card
from imgcls.models.registry import ModelSpec


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
