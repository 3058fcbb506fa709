"""The linear heads of a network: the layers whose mean its logits are, which can be fitted to their inputs."""

from typing import Any, Final, cast

import torch
from torch import Tensor, nn

AVERAGING: Final = ("MeanBackward1", "DivBackward0")
JOINING: Final = ("AddBackward0", "StackBackward0")
RESHAPING: Final = ("ViewBackward0", "SqueezeBackward1", "UnsafeViewBackward0", "ReshapeAliasBackward0")
"""Operations that may stand between linear heads and the mean of their outputs, by autograd's names."""


def linear_heads(network: nn.Module, images: Tensor) -> dict[str, nn.Module]:
    """Return the linear layers, or 1 x 1 convolutions, whose mean is the output of ``network``, by name.

    Returns nothing if the output is computed otherwise, or if such a layer has no bias. ``images``, float32 ``[B, 3, S,
    S]``, are passed through the network in eval mode; values do not matter.
    """
    outputs: dict[str, Tensor] = {}
    linear = (nn.Linear, nn.Conv2d)
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, linear)}

    def keep(name: str) -> Any:  # noqa: ANN401 - a hook
        return lambda _layer, _inputs, output: outputs.update({name: output})

    hooks = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    try:
        with torch.enable_grad():
            logits = cast("Tensor", network.eval()(images))
    finally:
        for hook in hooks:
            hook.remove()
    # One row of the output for each image: not the layers that are applied to every token or place of a map.
    ends = {
        output.grad_fn: name
        for name, output in outputs.items()
        if output.grad_fn is not None and output.numel() == logits.numel()
    }
    names = _averaged(logits, ends)
    heads: dict[str, nn.Module] = {name: layer for name, layer in layers.items() if name in names}
    return heads if all(layer.bias is not None for layer in heads.values()) else {}


def _averaged(logits: Tensor, ends: dict[Any, str]) -> set[str]:
    """Return the names of the ``ends`` whose mean ``logits`` are, by autograd's graph; none if they are not a mean."""
    names, operations, waiting = set[str](), list[str](), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in ends:
            names.add(ends[node])
            continue
        operation = type(node).__name__
        inputs = [] if node is None else [following for following, _ in node.next_functions]
        if operation in JOINING and None in inputs:
            return set()  # a constant is added
        if operation not in (*AVERAGING, *JOINING, *RESHAPING):
            return set()
        operations.append(operation)
        waiting += [following for following in inputs if following is not None]
    averaged = sum(operation in AVERAGING for operation in operations)
    return names if averaged == (len(names) > 1) else set()
