"""Reading an ONNX file, and refusing one that a session should not open.

A session reads files that the model names, and allocates what the model declares. Hence the file is judged by its
structure, with the ``onnx`` library and without its external data: it may contain what this project's export and
conversions produce, and nothing else.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imgcls.errors import ConfigError
from imgcls.inference.onnx_files.sizes import BYTES, MOST_BYTES, dims_text, is_absurd, shown, size_faults

if TYPE_CHECKING:
    import onnx

DOMAINS: Final = ("", "ai.onnx")
"""Domains of operators in the files of this project: the standard's, under its two names."""

MOST_NODES: Final = 100_000
"""Operators, or stored tensors, of a file; the largest networks of timm have some thousands."""


def read_model(path: Path) -> "onnx.ModelProto":
    """Return the content of an ONNX file, without external data; raises ConfigError if it cannot be read."""
    import onnx  # noqa: PLC0415 - takes a tenth of a second, and is not needed by processes that get the card
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if not path.is_file():
        message = f"{path}: no such file; give a model.onnx that a run has exported"
        raise ConfigError(message)
    try:
        # Nothing larger can be a model, and it would have to fit in memory to find that out.
        if path.stat().st_size > MOST_BYTES:
            message = f"{path}: not an ONNX model that can be read (larger than 2 GiB)"
            raise ConfigError(message)
        # The format is given: by default it follows from the name, and a runtime could then read something else.
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except (DecodeError, OSError) as error:
        message = f"{path}: not an ONNX model that can be read ({error})"
        raise ConfigError(message) from error
    if not model.graph.node:  # as of an empty file, which is a valid message
        message = f"{path}: not an ONNX model that can be read (it has no operators)"
        raise ConfigError(message)
    return model


def metadata_in(model: "onnx.ModelProto") -> dict[str, str]:
    """Return the metadata of a model."""
    return {entry.key: entry.value for entry in model.metadata_props}


def check_file(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file that a session may open.

    Raises ConfigError if it cannot be read, or contains something that this project never writes: external data,
    operators of other domains, graphs within graphs, functions, or tensors whose values are absent or would take
    gigabytes. Allocates no more than the file itself takes.
    """
    model = read_model(path)
    if (fault := next(_faults(model), None)) is not None:
        message = f"{path}: is not opened ({fault}); export it with this project"
        raise ConfigError(message)
    return metadata_in(model)


def _faults(model: "onnx.ModelProto") -> Iterator[str]:
    """Yield what is wrong with a model, the cheapest checks first."""
    graph = model.graph
    if max(len(graph.node), len(graph.initializer)) > MOST_NODES:
        yield f"more than {MOST_NODES} operators or tensors"
    # The exporter makes none of these. Nested calls and loops could take any time, and a dense copy any memory.
    for what, entries in (
        ("functions", model.functions),
        ("a training graph", model.training_info),
        ("sparse tensors", graph.sparse_initializer),
    ):
        if entries:
            yield f"it has {what}"
    for node in graph.node:
        yield from _node_faults(node)
    yield from _tensor_faults(graph.initializer)
    yield from size_faults(model)


def _node_faults(node: "onnx.NodeProto") -> Iterator[str]:
    operator = shown(node.op_type)
    if node.domain not in DOMAINS:
        yield f"operator {operator} is of domain {shown(node.domain)}, not of the ONNX standard"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            yield f"operator {operator} has a graph of its own"
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            yield f"operator {operator} has a sparse tensor"
        yield from _tensor_faults(attribute.tensors)
        if attribute.HasField("t"):
            yield from _tensor_faults([attribute.t])


def _tensor_faults(tensors: Iterable["onnx.TensorProto"]) -> Iterator[str]:
    import onnx  # noqa: PLC0415

    for tensor in tensors:
        name = shown(tensor.name)
        if tensor.data_location != onnx.TensorProto.DEFAULT or tensor.external_data:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            yield f"the values of tensor {name} lie outside the file, in {shown(places[0] if places else '')}"
        elif tensor.data_type not in BYTES:
            yield f"tensor {name} has elements of type {tensor.data_type}"
        elif is_absurd(tensor.dims):
            yield f"tensor {name} has the shape {dims_text(tensor.dims)}"
        elif (held := _held(tensor)) != (declared := math.prod(tensor.dims) * BYTES[tensor.data_type]):
            yield f"tensor {name} of shape {dims_text(tensor.dims)} takes {declared} bytes, but the file has {held}"


def _held(tensor: "onnx.TensorProto") -> int:
    """Return the number of bytes of the values that a tensor holds, wherever in the message they are stored."""
    from onnx import helper  # noqa: PLC0415

    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    return len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))) * BYTES[tensor.data_type]
