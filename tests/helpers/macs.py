"""Our count of MACs of a network against torch's own counter."""

from dataclasses import dataclass

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from imgcls.models import complexity

CONVOLUTIONS = {"conv", "_convolution_mode"}
PRODUCTS = {"linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum", "lstm", "scaled_dot_product_attention"}


@dataclass(frozen=True, kw_only=True)
class Compared:
    """MACs of one image by both counters; ``rest`` are those of operators that torch does not count, by name."""

    model: str
    image_size: int
    convolutions: tuple[float, float]
    products: tuple[float, float]
    rest: dict[str, float]

    @property
    def torch_total(self) -> float:
        return self.convolutions[1] + self.products[1]

    @property
    def total(self) -> float:
        return self.convolutions[0] + self.products[0] + sum(self.rest.values())

    @property
    def counted_ratio(self) -> float:
        """Ours over torch's for convolutions, linear layers and matrix products."""
        return (self.convolutions[0] + self.products[0]) / self.torch_total

    @property
    def same_products(self) -> bool:
        """Whether both kinds of operators agree within 1 %."""
        return all(abs(ours - theirs) <= theirs / 100 for ours, theirs in (self.convolutions, self.products))


def compare(name: str, size: int | None = None) -> Compared:
    """Compare the counts of a model of timm with random weights; ``size`` is that of its config if None."""
    model = timm.create_model(name)
    size = size or model.pretrained_cfg["input_size"][-1]
    ours = complexity.count(model, size).by_operator
    theirs = counted_by_torch(name, size)
    convolutions = sum(macs for key, macs in theirs.items() if "convolution" in key)
    return Compared(
        model=name,
        image_size=size,
        convolutions=(sum(ours.get(key, 0) for key in CONVOLUTIONS), convolutions),
        products=(sum(ours.get(key, 0) for key in PRODUCTS), sum(theirs.values()) - convolutions),
        rest={key: macs for key, macs in ours.items() if key not in CONVOLUTIONS | PRODUCTS},
    )


def counted_by_torch(name: str, size: int) -> dict[str, float]:
    """The MACs by operator of the network that timm builds without fused attention."""
    timm.layers.set_fused_attn(enable=False)
    try:
        # On the meta device nothing is computed, and an LSTM is the matrix products that it is made of.
        with torch.device("meta"):
            model = timm.create_model(name).eval().requires_grad_(requires_grad=False)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                model(torch.zeros(1, 3, size, size))
    finally:
        timm.layers.set_fused_attn(enable=True)
    return {str(operator): flops / 2 for operator, flops in counter.get_flop_counts()["Global"].items()}
