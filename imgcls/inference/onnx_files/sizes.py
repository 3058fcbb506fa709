"""Memory that an ONNX model would take, found by shape inference over a copy of its graph without the weights."""

import math
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import onnx

MOST_BYTES: Final = 2**31
"""Largest file, tensor at batch 1, and sum of what is computed from constants: the limit of the file format itself."""

SMALL_BYTES: Final = 1024
"""Values of larger tensors are not copied: they are no shapes."""

MOST_DIMS: Final = 32
"""Dimensions of a tensor; NumPy has at most 64, and networks use 6."""

MOST_SHOWN: Final = 60

BYTES: Final = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
"""Bytes of an element, by the number of its type in ``onnx.TensorProto.DataType``: numbers and booleans."""

WIDEST: Final = 8


def shown(text: str) -> str:
    """Return text of a stranger in quotes, in one line and not too long."""
    return repr(text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "...")


def dims_text(dims: Sequence[int]) -> str:
    """Return a shape as text."""
    return "x".join(map(str, dims[:MOST_DIMS])) + ("x..." if len(dims) > MOST_DIMS else "")


def is_absurd(dims: Sequence[int]) -> bool:
    """Return whether no tensor can have these dimensions."""
    return len(dims) > MOST_DIMS or min(dims, default=0) < 0


def size_faults(model: "onnx.ModelProto") -> Iterator[str]:
    """Yield the tensors that would take gigabytes: at batch 1, or computed from constants while a session opens."""
    # In order, because the inference takes the nodes as they come, and a file need not have them in order.
    try:
        nodes = _in_order(model)
    except CycleError:
        yield "its graph has a cycle"
        return
    types, fault = _inferred(model, nodes)
    if fault is not None:
        yield f"its shapes cannot be inferred: {shown(fault)}"
        return
    for name, kind in types.items():
        if (dims := [dim.dim_value for dim in kind.tensor_type.shape.dim]) and is_absurd(dims):
            yield f"tensor {shown(name)} has the shape {dims_text(dims)}"
        elif (size := _bytes_of(kind)) > MOST_BYTES:
            yield f"tensor {shown(name)} takes {size / 2**30:.1f} GiB at batch 1, more than 2 GiB"
    yield from _constant_faults(model, nodes, types)


def _constant_faults(
    model: "onnx.ModelProto", nodes: Sequence["onnx.NodeProto"], types: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is computed from constants alone, which a session does once and keeps, and has no bounded size."""
    constants, total = {tensor.name for tensor in model.graph.initializer}, 0
    for node in nodes:
        if not all(name in constants for name in node.input if name):
            continue
        for name in filter(None, node.output):
            constants.add(name)
            if not _is_fixed(types.get(name)):
                yield f"operator {shown(node.op_type)} computes a tensor of unknown size from constants"
                return
            total += _bytes_of(types[name])
        if total > MOST_BYTES:
            yield f"operators compute {total / 2**30:.1f} GiB from constants, more than 2 GiB"
            return


def _in_order(model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    nodes = model.graph.node
    makers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    graph = {number: {makers[name] for name in node.input if name in makers} for number, node in enumerate(nodes)}
    return [nodes[number] for number in TopologicalSorter(graph).static_order()]


def _inferred(model: "onnx.ModelProto", nodes: Sequence["onnx.NodeProto"]) -> tuple[dict[str, Any], str | None]:
    """Return the type of each tensor whose type follows from the graph, by name, or the reason why there is none."""
    from onnx import shape_inference  # noqa: PLC0415 - as ``onnx`` itself

    try:
        # Without data propagation, which would compute tensors of shapes; without them it allocates no tensor at all.
        graph = shape_inference.infer_shapes(_skeleton(model, nodes)).graph
    except Exception as error:  # noqa: BLE001 - its C++ code raises errors without a common base
        return {}, (str(error).splitlines() or [type(error).__name__])[0]
    return {value.name: value.type for value in (*graph.input, *graph.value_info, *graph.output)}, None


def _skeleton(model: "onnx.ModelProto", nodes: Sequence["onnx.NodeProto"]) -> "onnx.ModelProto":
    """Return a model's graph with the shapes of its weights, but without their values and without claims of shapes."""
    import onnx  # noqa: PLC0415

    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = skeleton.graph
    graph.name = "skeleton"
    graph.node.extend(nodes)
    graph.input.extend(model.graph.input)
    for output in model.graph.output:
        graph.output.add(name=output.name)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= SMALL_BYTES // WIDEST:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return skeleton


def _is_fixed(kind: Any) -> bool:  # noqa: ANN401 - a message of onnx, or None
    if kind is None or not kind.tensor_type.HasField("shape"):
        return False
    return all(dim.HasField("dim_value") for dim in kind.tensor_type.shape.dim)


def _bytes_of(kind: Any) -> int:  # noqa: ANN401 - a message of onnx
    """Return the bytes of a tensor, as far as its type tells: an open dimension, such as the batch, counts as 1."""
    dims = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.tensor_type.shape.dim]
    return math.prod(dims) * BYTES.get(kind.tensor_type.elem_type, WIDEST)
