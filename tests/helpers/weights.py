"""Folders of made-up pre-trained weights, as ``--weights`` takes them: names and shapes are those of ImageNet's."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import PretrainedCfg, get_pretrained_cfg

from imgcls.models.building import storable

TINY = "test_efficientnet"


def write_weights(folder: Path, *, architecture: str = TINY, state: dict[str, torch.Tensor] | None = None) -> Path:
    """Write the weights and their preprocessing; return the folder."""
    torch.manual_seed(5)
    cfg = {
        "tag": "made_up",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "num_classes": 1000,
        "first_conv": "conv_stem",
        "classifier": "classifier",
    }
    config = {"architecture": architecture, "num_classes": 1000, "pretrained_cfg": cfg}
    _write(folder / TINY, config, state or timm.create_model(TINY).state_dict())
    return folder


def write_pretrained(folder: Path, name: str, *, model_args: dict[str, Any] | None = None, **options: Any) -> Path:
    """Write random weights of any timm model with the config of its default tag; return the folder."""
    torch.manual_seed(5)
    # The config of the hub has an auxiliary head where the weights have one.
    network = timm.create_model(name, **({"aux_logits": True} if name == "inception_v3" else {}), **options)
    cfg = (get_pretrained_cfg(name) or PretrainedCfg()).to_dict(remove_source=True, remove_null=True)
    config = {"architecture": name, "num_classes": cfg.get("num_classes", 1000), "pretrained_cfg": cfg}
    config |= {} if model_args is None else {"model_args": model_args}
    state = storable(network) | {key: tensor for key, tensor in network.state_dict().items() if "AuxLogits" in key}
    _write(folder / name, config, state)
    return folder


def _write(home: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps(config))
    save_file(state, home / "model.safetensors")
