"""MACs of the smallest model of each module of timm against torch's counter: ``python -m tests.benchmarks.macs``.

Writes docs/macs.md, in two and a half minutes of CPU time. With ``--choose`` it prints which models are the smallest
instead, for ``SMALLEST`` after an update of timm; building all of timm's models takes some six minutes.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import timm
import torch

from imgcls.files import write_text
from tests.helpers.macs import Compared, compare

ROOT = Path(__file__).parent.parent.parent
WORKERS: Final = 2
MOST_APART: Final = 0.1
"""Relative difference of totals up to which they count as equal."""
SHOWN: Final = 0.005
"""Share of our total from which an operator that torch does not count is named."""

SMALLEST: Final = (
    "beit_base_patch16_224",
    "halonet_h1",
    "test_byobnet",
    "cait_xxs24_224",
    "coat_tiny",
    "convit_tiny",
    "convmixer_768_32",
    "test_convnext",
    "cpubone_nano",
    "crossvit_tiny_240",
    "csatv2",
    "cs3darknet_focus_s",
    "cspnext_tiny",
    "davit_tiny",
    "deepseek_vit_412m",
    "deit_tiny_patch16_224",
    "densenet121",
    "dla46x_c",
    "dpn48b",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "test_efficientnet",
    "efficientvim_m1",
    "efficientvit_b0",
    "efficientvit_m0",
    "vit_tiny_patch16_dinov3_qkvb",
    "fasternet_t0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "gemma4_vit_167m",
    "ghostnet_050",
    "hardcorenas_b",
    "hgnetv2_b0",
    "hiera_tiny_224",
    "sam2_hiera_tiny",
    "hrnet_w18_small",
    "iformer_t",
    "inception_next_atto",
    "inception_resnet_v2",
    "inception_v3",
    "inception_v4",
    "lcnetv2_small",
    "levit_128s",
    "lowformer_b0",
    "test_mambaout",
    "test_coatnet",
    "poolformerv2_s12",
    "gmlp_ti16_224",
    "mobilenetv3_small_050",
    "mobilenetv5_base",
    "mobilevit_xxs",
    "mvitv2_tiny",
    "naflexvit_base_patch16_parfac_gap",
    "nasnetalarge",
    "nest_tiny",
    "nextvit_small",
    "test_nfnet",
    "pit_ti_224",
    "pnasnet5large",
    "pvt_v2_b0",
    "qwen3_vit_88m",
    "rdnet_tiny",
    "regnetx_002",
    "repghostnet_050",
    "repvit_m1",
    "res2next50",
    "resnest14d",
    "test_resnet",
    "resnetv2_18",
    "rexnet_100",
    "selecsls42",
    "legacy_seresnet18",
    "sequencer2d_s",
    "shvit_s1",
    "skresnet18",
    "starnet_s050",
    "swiftformer_xs",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window16_256",
    "swinv2_cr_tiny_224",
    "tiny_vit_5m_224",
    "tnt_s_legacy_patch16_224",
    "tresnet_m",
    "twins_svt_small",
    "vgg11",
    "visformer_tiny",
    "test_vit",
    "vit_tiny_r_s16_p8_224",
    "test_vit_relpos",
    "samvit_base_patch16_224",
    "vitamin_small_224",
    "volo_d1_224",
    "ese_vovnet19b_slim_dw",
    "legacy_xception",
    "xception41p",
    "xcit_nano_12_p8_224",
)
"""The model with the fewest parameters of each module of timm 1.0.31."""

SIZES: Final = {"deepseek_vit_412m": 252, "gemma4_vit_167m": 288, "qwen3_vit_88m": 256}
"""Sizes below the default ones, at which these would take most of the time."""


def choose() -> list[str]:
    """Return the model with the fewest parameters of each module of timm."""
    smallest: dict[str, tuple[int, str]] = {}
    for name in timm.list_models():
        with torch.device("meta"):
            model = timm.create_model(name)
        size = (sum(parameter.numel() for parameter in model.parameters()), name)
        module = timm.model_entrypoint(name).__module__
        smallest[module] = min(size, smallest.get(module, size))
    return [name for _, (_, name) in sorted(smallest.items())]


def line(compared: Compared) -> str:
    """Return the line of a model in the table."""
    rest = sorted(((macs / compared.total, name) for name, macs in compared.rest.items()), reverse=True)
    cells = [
        f"`{compared.model}`",
        str(compared.image_size),
        f"{compared.total / 1e9:.3f}",
        f"{compared.torch_total / 1e9:.3f}",
        f"{compared.counted_ratio:.4f}",
        f"{compared.total / compared.torch_total:.3f}",
        ", ".join(f"{name} {100 * share:.1f} %" for share, name in rest if share >= SHOWN) or "-",
    ]
    return f"| {' | '.join(cells)} |"


def page(every: list[Compared]) -> str:
    """Return docs/macs.md."""
    apart = [one.model for one in every if not one.same_products]
    above = [one.model for one in every if abs(one.total / one.torch_total - 1) > MOST_APART]
    versions = ", ".join(f"{name} {version(name).split('+')[0]}" for name in ("timm", "torch", "fvcore"))
    columns = ("Model", "px", "GMACs, ours", "GMACs, torch", "Products", "Totals", "Others in ours, of the total")
    lines = [
        "# Multiply-accumulates",
        "",
        "Made by `python -m tests.benchmarks.macs`: the smallest model of each module of timm at its default size",
        f"(that of {', '.join(f'`{name}`' for name in SIZES)} is reduced),",
        "counted by `imgcls.models.complexity`, and by torch's `FlopCounterMode` (halved) on the network that timm",
        f"builds without fused attention; {versions}.",
        "",
        "**Products** is the ratio, ours over torch's, of convolutions, linear layers and matrix products. **Totals**",
        "is the ratio of all that is counted: we add norms and pools, as fvcore does, and torch does not. Those from",
        "0.5 % of our total on are named.",
        "",
        f"Products are within 1 % for {len(every) - len(apart)} of {len(every)} models{_but(apart)}, convolutions and",
        f"the others each; the totals are within 10 % for {len(every) - len(above)}{_but(above)}.",
        "",
        f"| {' | '.join(columns)} |",
        "|---|" + "--:|" * (len(columns) - 2) + "---|",
        *map(line, every),
    ]
    return "\n".join(lines) + "\n"


def _but(names: list[str]) -> str:
    return f" (not {', '.join(f'`{name}`' for name in names)})" if names else ""


def main() -> None:
    if "--choose" in sys.argv:
        sys.stdout.write("".join(f'    "{name}",\n' for name in choose()))
        return
    # A process for each core, since the graph of a network is traced by one thread; spawned, as torch has threads.
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        every = list(pool.map(compare, SMALLEST, map(SIZES.get, SMALLEST)))
    write_text(page(every), ROOT / "docs" / "macs.md")


if __name__ == "__main__":
    main()
