"""A folder of made-up pre-trained weights of a tiny model, as ``--weights`` takes it."""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

TINY = "test_efficientnet"


def write_weights(folder: Path, *, architecture: str = TINY, state: dict[str, torch.Tensor] | None = None) -> Path:
    """Write the weights and their preprocessing; return the folder."""
    home = folder / TINY
    home.mkdir(parents=True)
    config = {
        "architecture": architecture,
        "num_classes": 1000,
        "pretrained_cfg": {
            "tag": "made_up",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "interpolation": "bilinear",
            "crop_pct": 0.9,
            "num_classes": 1000,
            "first_conv": "conv_stem",
            "classifier": "classifier",
        },
    }
    (home / "config.json").write_text(json.dumps(config))
    torch.manual_seed(5)
    save_file(state or timm.create_model(TINY).state_dict(), home / "model.safetensors")
    return folder
