"""ONNX files that would make a session read other files, run other code or allocate gigabytes are not opened."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from imgcls.errors import ConfigError
from imgcls.inference.onnx_files import reading, sizes
from imgcls.inference.onnx_files.reading import check_file
from imgcls.inference.predict import open_classifier
from imgcls.inference.quantisation import ensure_fp16
from imgcls.inference.runtimes import ONNX, open_session

Edit = Callable[[onnx.ModelProto], object]


@pytest.fixture
def model(artifacts: Path, tmp_path: Path) -> Path:
    (tmp_path / ONNX).write_bytes((artifacts / ONNX).read_bytes())
    return tmp_path / ONNX


@pytest.fixture(autouse=True)
def _no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_arguments: object, **_options: object) -> None:
        pytest.fail("a session was opened")

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)


def external(place: str) -> Edit:
    def edit(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return edit


def constants(*values: Any) -> Edit:
    """Add initialisers named c0, c1, ..."""
    return lambda proto: proto.graph.initializer.extend(
        numpy_helper.from_array(np.array(value), f"c{number}") for number, value in enumerate(values)
    )


def node(operator: str, inputs: int | list[str] = 0, *, values: tuple[Any, ...] = (), **attributes: Any) -> Edit:
    """Add an operator, by default one of ``values`` as its constant inputs, whose output nothing uses."""

    def edit(proto: onnx.ModelProto) -> None:
        constants(*values)(proto)
        names = inputs if isinstance(inputs, list) else [f"c{number}" for number in range(len(values))]
        proto.graph.node.append(helper.make_node(operator, names, ["hostile"], name="n", **attributes))

    return edit


def declared(dims: list[int], *, raw: bytes = b"", kind: int = TensorProto.FLOAT) -> Edit:
    return lambda proto: proto.graph.initializer.add(name="large", data_type=kind, dims=dims, raw_data=raw)


def doubled(operator: str) -> Edit:
    """Each of forty operators doubles its input, from one number to 2**40."""

    def edit(proto: onnx.ModelProto) -> None:
        constants(np.zeros(1, np.float32))(proto)
        proto.graph.node.extend(
            helper.make_node(operator, [f"c{number}"] * 2, [f"c{number + 1}"], axis=0) for number in range(40)
        )
        reversed_nodes = list(proto.graph.node)[::-1]  # a file need not have them in order
        del proto.graph.node[:]
        proto.graph.node.extend(reversed_nodes)

    return edit


def table(proto: onnx.ModelProto) -> None:
    """A product of a column and a row, each of 40 KB."""
    row = np.zeros((1, 100_000), np.float32)
    node("MatMul", values=(row.T, row))(proto)


def many(proto: onnx.ModelProto) -> None:
    """Four constants of 0.75 GiB, none of which is too large by itself."""
    constants(np.array([3 * 2**26]))(proto)
    proto.graph.node.extend(helper.make_node("ConstantOfShape", ["c0"], [f"filled{number}"]) for number in range(4))


def custom(domain: str) -> Edit:
    def edit(proto: onnx.ModelProto) -> None:
        proto.opset_import.add(domain=domain, version=1)
        node("PyOp", ["images"], domain=domain)(proto)

    return edit


def branching(operator: str) -> Edit:
    """An operator with a graph, whose constant is in another file."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])],
        "inner",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)],
    )
    return node(operator, values=(True,), then_branch=inner, else_branch=inner)


def function(proto: onnx.ModelProto) -> None:
    proto.opset_import.add(domain="mine", version=1)
    calls = [helper.make_node("ConstantOfShape", ["x"], ["y"])]
    proto.functions.append(helper.make_function("mine", "F", ["x"], ["y"], calls, [helper.make_opsetid("", 20)]))


def cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Relu", ["b"], ["a"]))
    proto.graph.node.append(helper.make_node("Relu", ["a"], ["b"]))


def wide(proto: onnx.ModelProto) -> None:
    for axis in (2, 3):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 10**6


def with_value(tensor: TensorProto) -> Edit:
    return node("Constant", value=tensor)


SPARSE = helper.make_sparse_tensor(
    helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0]),
    helper.make_tensor("indices", TensorProto.INT64, [1], [0]),
    [10**12],
)
OUTSIDE = TensorProto(data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)

FILES: dict[str, tuple[Edit, str]] = {
    "values in another file": (external("weights.bin"), "lie outside the file, in 'weights.bin'"),
    "values in a system file": (external("../../etc/passwd"), "lie outside the file, in '../../etc/passwd'"),
    "values of a constant": (with_value(OUTSIDE), "lie outside the file, in ''"),
    "name with line breaks": (external("a\nb"), r"in 'a\nb'"),
    "custom operator": (custom("ai.onnx.contrib"), "operator 'PyOp' is of domain 'ai.onnx.contrib'"),
    "operator of the runtime": (custom("com.microsoft"), "is of domain 'com.microsoft'"),
    "branch": (branching("If"), "operator 'If' has a graph of its own"),
    "function": (function, "it has functions"),
    "training graph": (lambda proto: proto.training_info.add(), "it has a training graph"),
    "sparse weights": (lambda proto: proto.graph.sparse_initializer.append(SPARSE), "it has sparse tensors"),
    "sparse constant": (node("Constant", sparse_value=SPARSE), "operator 'Constant' has a sparse tensor"),
    "absent values": (declared([2**20, 2**10]), "of shape 1048576x1024 takes 4294967296 bytes, but the file has 0"),
    "values cut short": (declared([3], raw=b"12345678"), "takes 12 bytes, but the file has 8"),
    "overflowing shape": (declared([2**62, 4], raw=b""), "takes 73786976294838206464 bytes"),
    "negative shape": (declared([-1, 4], raw=b""), "tensor 'large' has the shape -1x4"),
    "many dimensions": (declared([1] * 1000, raw=bytes(4)), "has the shape 1x1x1x"),
    "texts": (declared([1], kind=TensorProto.STRING), "has elements of type 8"),
    "huge input": (wide, "tensor 'images' takes 11175.9 GiB at batch 1"),
    "ConstantOfShape": (node("ConstantOfShape", values=([2**30],)), "takes 4.0 GiB at batch 1, more than 2 GiB"),
    "four constants": (many, "operators compute 2.2 GiB from constants, more than 2 GiB"),
    "Expand": (node("Expand", values=(np.float32(1), [2**15, 2**15])), "tensor 'hostile' takes 4.0 GiB"),
    "Expand of the input": (node("Expand", ["images", "c0"], values=([2**22, 3, 32, 32],)), "tensor 'hostile'"),
    "Tile": (node("Tile", values=(np.zeros(8, np.float32), [2**28])), "tensor 'hostile' takes 8.0 GiB"),
    "Range": (node("Range", values=(0, 2**40, 1)), "tensor 'hostile' takes 8192.0 GiB"),
    "random numbers": (node("RandomNormal", shape=[2**15, 2**15]), "tensor 'hostile' takes 4.0 GiB"),
    "Pad": (node("Pad", values=(np.zeros(1, np.float32), [0, 2**40])), "tensor 'hostile' takes 4096.0 GiB"),
    "OneHot": (node("OneHot", values=([0], 2**31, np.array([0, 1], np.float32))), "tensor 'hostile' takes 8.0 GiB"),
    "Concat": (doubled("Concat"), "tensor 'c"),
    "MatMul": (table, "tensor 'hostile' takes 37.3 GiB"),
    "unknown size": (
        lambda proto: (
            node("Mul", values=([2**20], [2**20]))(proto),
            proto.graph.node.append(helper.make_node("ConstantOfShape", ["hostile"], ["filled"])),
        ),
        "operator 'ConstantOfShape' computes a tensor of unknown size from constants",
    ),
    "cycle": (cycle, "its graph has a cycle"),
}


@pytest.mark.parametrize(("edit", "says"), FILES.values(), ids=FILES)
def test_hostile_files_are_refused_before_a_session(edit: Edit, says: str, model: Path) -> None:
    """In the same line everywhere, and without memory."""
    proto = onnx.load(model)
    edit(proto)
    model.write_bytes(proto.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reasons = set()
    for opened in (
        lambda: open_classifier(model),
        lambda: open_session("onnxruntime-cpu", model.parent, threads=1),
        lambda: open_session("openvino-cpu", model.parent, threads=1),
        lambda: ensure_fp16(model.parent, identity="other"),
    ):
        with pytest.raises(ConfigError) as caught:
            opened()
        reasons.add(str(caught.value))
    (reason,) = reasons
    assert reason.startswith(f"{model}: is not opened (")
    assert says in reason
    assert "\n" not in reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KB


def test_files_beyond_the_format_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MOST_BYTES", 2**20)
    assert check_file(model)
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match="larger than 2 GiB"):
        check_file(model)
    monkeypatch.setattr(reading, "MOST_BYTES", 2**31)
    monkeypatch.setattr(reading, "MOST_NODES", 10)
    with pytest.raises(ConfigError, match="more than 10 operators or tensors"):
        check_file(model)


def test_a_sparse_file_of_3_gib_is_not_read(model: Path) -> None:
    with model.open("r+b") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(ConfigError, match="larger than 2 GiB"):
        open_classifier(model)


@pytest.mark.parametrize("name", ["model.json", "model.textproto", "model.onnxtxt"])
def test_names_do_not_choose_the_format(name: str, model: Path) -> None:
    """Otherwise what is checked and what a session reads could differ."""
    assert check_file(model.rename(model.with_name(name)))
