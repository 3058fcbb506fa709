"""Operators of a traced network with convolutions or matrix products, and the MACs of those that fvcore skips.

Nothing here loads torch, because commands that only read records ask which operators are missing from a count.
"""

from collections.abc import Callable, Collection, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch._C import Value

COUNTING: Final = 2
"""Version of the method of counting, for records; 1 skipped the operators of ``HANDLERS``."""

Handler = Callable[[Sequence[Any], Sequence[Any]], int]
"""Return the MACs of an operator from its inputs and outputs, values of a traced graph (``torch._C.Value``)."""


def _shape(value: "Value") -> list[int]:
    sizes: list[int] = value.type().sizes()  # type: ignore[attr-defined] # torch's stubs lack it
    return sizes


def _baddbmm(inputs: Sequence["Value"], outputs: Sequence["Value"]) -> int:
    # The first input is added to the product of the other two.
    return prod(_shape(outputs[0])) * _shape(inputs[1])[-1]


def _convolution(inputs: Sequence["Value"], outputs: Sequence["Value"]) -> int:
    """Count a convolution whose padding is named ("same"): input, weight ``[O, I, ...]``, output ``[B, O, ...]``."""
    batch, _, *size = _shape(outputs[0])
    return batch * prod(_shape(inputs[1])) * prod(size)


def _attention(inputs: Sequence["Value"], _: Sequence["Value"]) -> int:
    """Count both products of fused attention: query ``[..., L, E]``, key ``[..., S, E]``, value ``[..., S, V]``."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(inputs: Sequence["Value"], _: Sequence["Value"]) -> int:
    """Count an LSTM, GRU or RNN, all layers and directions: each weight matrix is applied to each step once."""
    parameters = [_shape(parameter) for parameter in inputs[2].node().inputs()]
    return prod(_shape(inputs[0])[:-1]) * sum(prod(sizes) for sizes in parameters if len(sizes) > 1)


HANDLERS: Final[dict[str, Handler]] = {
    "aten::_convolution_mode": _convolution,
    "aten::baddbmm": _baddbmm,
    "aten::scaled_dot_product_attention": _attention,
    "aten::lstm": _recurrent,
    "aten::gru": _recurrent,
    "aten::rnn_relu": _recurrent,
    "aten::rnn_tanh": _recurrent,
}
"""Operators that fvcore skips, by their name in a traced graph."""

UNHANDLED: Final = frozenset(
    {
        "aten::_native_multi_head_attention",
        "aten::_transformer_encoder_layer_fwd",
        "aten::addbmm",
        "aten::addmv",
        "aten::bilinear",
        "aten::cdist",
        "aten::chain_matmul",
        "aten::dot",
        "aten::inner",
        "aten::linalg_multi_dot",
        "aten::mv",
        "aten::tensordot",
    }
)
"""Further operators with matrix products, which no model of timm calls; without them a count is a lower bound."""


def missing_products(uncounted: Collection[str]) -> list[str]:
    """Return which of the operators that a count lacks have convolutions or matrix products; others are elementwise."""
    return sorted(name for name in uncounted if name in HANDLERS or name in UNHANDLED)
