"""Number of parameters and multiply-accumulate operations (MACs) of a network."""

import logging
from dataclasses import dataclass

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """Size of a network; ``gmacs`` are 1e9 MACs per image as counted by fvcore (FLOPs = 2 x MACs).

    fvcore adds two per element for batch norm and one for adaptive pools, so that its counts are 0.3 to 4 % above
    published ones. ``uncounted_operators`` are those that it skips, with their number of calls.
    """

    num_params: int
    gmacs: float
    uncounted_operators: dict[str, int]


def count(model: nn.Module, image_size: int) -> Complexity:
    """Count parameters and MACs for one float32 image ``[1, 3, S, S]``; ``model`` must have no auxiliary head."""
    assert getattr(model, "AuxLogits", None) is None, "count the network without its auxiliary head"
    device = next(model.parameters()).device
    # In eval mode, because batch norm cannot train on one image. fvcore's "flops" count a multiply-add once: MACs.
    analysis = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, image_size, image_size, device=device))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return Complexity(
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=analysis.total() / 1e9,
        uncounted_operators=dict(sorted(analysis.unsupported_ops().items())),
    )
