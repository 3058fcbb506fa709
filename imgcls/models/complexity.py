"""Parameters and multiply-accumulates of a network at its own input size."""

import logging
from dataclasses import dataclass

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """``gmacs``: 1e9 MACs an image as fvcore counts them (a fused multiply-add is one; FLOPs = 2 x MACs).

    fvcore adds two an element for batch norm and one for adaptive pools, 0.3 to 4 % over published figures.
    """

    num_params: int
    gmacs: float
    uncounted_operators: dict[str, int]


def count(model: nn.Module, image_size: int) -> Complexity:
    """Count in eval mode for one float32 image ``[1, 3, S, S]``; the auxiliary head is not part of ``model``."""
    assert getattr(model, "AuxLogits", None) is None, "count the network without its auxiliary head"
    device = next(model.parameters()).device
    analysis = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, image_size, image_size, device=device))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return Complexity(
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=analysis.total() / 1e9,
        uncounted_operators=dict(sorted(analysis.unsupported_ops().items())),
    )
