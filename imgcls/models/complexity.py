"""Number of parameters and multiply-accumulate operations (MACs) of a network."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
from fvcore.nn import FlopCountAnalysis
from timm.models import get_pretrained_cfg
from torch import nn

from imgcls.models.operators import HANDLERS
from imgcls.models.structure import unfused_attention


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """Size of a network; ``gmacs`` are 1e9 MACs per image as counted by fvcore (FLOPs = 2 x MACs).

    ``by_operator`` holds the MACs of each operator. fvcore adds two per element for batch norm, five for layer norm and
    one for adaptive pools, so that its counts of most convolutional networks are 0.3 to 4 % above published ones.
    ``uncounted_operators`` are those that it skips, with their number of calls.
    """

    num_params: int
    gmacs: float
    by_operator: dict[str, float]
    uncounted_operators: dict[str, int]


def count(model: nn.Module, image_size: int) -> Complexity:
    """Count parameters and MACs for one float32 image ``[1, 3, S, S]``; ``model`` must have no auxiliary head.

    Attention is counted as its matrix products, whether the network fuses them or not. The network is left unchanged.
    """
    assert getattr(model, "AuxLogits", None) is None, "count the network without its auxiliary head"
    device = next(model.parameters()).device
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    # fvcore's "flops" count a multiply-add once: MACs.
    analysis = FlopCountAnalysis(model, torch.zeros(1, 3, image_size, image_size, device=device))
    analysis.unsupported_ops_warnings(enabled=False).uncalled_modules_warnings(enabled=False)
    analysis.set_op_handle(**HANDLERS)
    with _as_counted(model), torch.no_grad():
        by_operator = dict(analysis.by_operator())
    return Complexity(
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        gmacs=sum(by_operator.values()) / 1e9,
        by_operator=by_operator,
        uncounted_operators=dict(sorted(analysis.unsupported_ops().items())),
    )


def count_named(timm_name: str, image_size: int, num_classes: int) -> Complexity | None:
    """Count a network of timm that was described by a record; None if it cannot be built, or not for this size.

    Weights are random; neither they nor the caller's random numbers matter.
    """
    name = timm_name.split(".", maxsplit=1)[0]
    if not timm.is_model(name):  # such as "hf-hub:...", whose config timm would download
        return None
    options: dict[str, Any] = {"num_classes": num_classes}
    if (cfg := get_pretrained_cfg(timm_name)) is not None and cfg.fixed_input_size:
        options["img_size"] = image_size
    with torch.random.fork_rng(devices=[]):
        try:
            return count(timm.create_model(name, pretrained=False, **options), image_size)
        except Exception:  # noqa: BLE001 - whatever a network of another timm version raises
            return None


@contextmanager
def _as_counted(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode, because batch norm cannot train on one image, and to attention that is not fused."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with unfused_attention(model):
            yield
    finally:
        for module, mode in training.items():
            module.training = mode
