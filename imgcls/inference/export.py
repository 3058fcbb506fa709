"""Export of a trained model to one ONNX file with its classes and preprocessing."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from imgcls.data.loaders import Source
from imgcls.data.prepared import Prepared
from imgcls.evaluation.forward import reference_logits
from imgcls.evaluation.predictions import Predictions
from imgcls.evaluation.results import Parity, Temperature
from imgcls.files import write_aside
from imgcls.inference.card import CARD_KEY, CARD_VERSION, OPSET, WORDS_KEY, Card, read_card, steps_of, words_of
from imgcls.inference.parity import check_parity
from imgcls.inference.runtimes import ONNX, open_session
from imgcls.inference.synthetic import draw_inputs, save_synthetic
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.models.building import load_deployed
from imgcls.models.registry import ModelSpec
from imgcls.models.structure import unfused_attention

if TYPE_CHECKING:
    import onnx_ir


def export_onnx(
    model: nn.Module,
    spec: ModelSpec,
    *,
    class_names: tuple[str, ...],
    path: Path,
    temperature: Temperature | None = None,
) -> None:
    """Write an ONNX file with a dynamic batch size and the model's card in its metadata, and check its structure.

    ``model`` is on the CPU, in eval mode, without an auxiliary head; ``temperature`` is from ``fit_temperature``.
    """
    size = spec.resize.size
    # Two images, because torch.export treats a dimension of size 1 as a constant.
    example = torch.zeros(2, 3, size, size)
    # Unfused: the exporter cannot decompose the fused operator of all networks (relative positions, for example).
    with _quiet(), unfused_attention(model):
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
    _register_constants(program.model.graph)
    proto = program.model_proto
    for node in proto.graph.node:
        # Tracebacks of the exporter, with paths of this machine; in small files they take half of the size.
        del node.metadata_props[:]
    card = _card(spec, class_names, temperature)
    onnx.helper.set_model_props(proto, {CARD_KEY: msgspec.json.encode(card).decode(), WORDS_KEY: words_of(card)})
    onnx.checker.check_model(proto, full_check=True)
    write_aside(path, lambda aside: onnx.save(proto, str(aside)))


def _register_constants(graph: "onnx_ir.Graph") -> None:
    """Add to a graph the constants that only its nodes refer to: onnxscript fuses clips (in gemma4_vit) without it."""
    for node in graph:
        for value in node.inputs:
            if value is None or value.const_value is None or value.name in graph.initializers:
                continue
            if value.producer() is None:
                graph.register_initializer(value)


def _card(spec: ModelSpec, class_names: tuple[str, ...], temperature: Temperature | None) -> Card:
    reason = temperature.uncalibrated_reason if temperature else None
    return Card(
        version=CARD_VERSION,
        model=spec.name,
        weights_tag=spec.weights.tag,
        class_names=class_names,
        resize=spec.resize,
        mean=spec.normalisation.mean,
        std=spec.normalisation.std,
        temperature=temperature.value if temperature and reason is None else None,
        uncalibrated_reason=reason,
        steps=steps_of(spec.resize, mean=spec.normalisation.mean, std=spec.normalisation.std),
    )


def export_checked(
    folder: Path, spec: ModelSpec, data: Prepared, trained: Predictions, *, temperature: Temperature | None
) -> Parity:
    """Export the weights in ``folder`` to ONNX beside them, and compare the file with ``trained`` on the test split.

    Raises ParityError if their logits differ by more than rounding explains (``check_parity``).
    """
    path, source = folder / ONNX, data.source("test")
    model, names = load_deployed(folder / WEIGHTS), data.audit.class_names
    export_onnx(model, spec, class_names=names, path=path, temperature=temperature)
    return check_parity(
        open_session("onnxruntime-cpu", folder, threads=torch.get_num_threads()).run,
        read_card(path),
        pixels=source.pixels,
        rows=source.indices,
        trained=trained,
    )


def predict_synthetic(folder: Path, spec: ModelSpec, *, device: torch.device) -> None:
    """Write the logits of the weights in ``folder`` for the synthetic inputs beside them."""
    inputs = draw_inputs(spec.resize.size)
    rows = np.arange(len(inputs))
    source = Source(pixels=inputs, indices=rows, labels=np.zeros_like(rows))
    save_synthetic(reference_logits(folder / WEIGHTS, source, spec=spec, device=device), inputs, folder)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter prints its steps even with verbose=False, and warns and logs about code that is not ours.
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
