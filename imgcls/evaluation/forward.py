"""The logits of a model for the images of a split."""

from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.data.augment import Normalisation
from imgcls.data.loaders import Source, eval_batches
from imgcls.models.building import set_aux

EVAL_BATCH: Final = 64


def logits_of(
    model: nn.Module, source: Source, *, normalisation: Normalisation, device: torch.device
) -> NDArray[np.float32]:
    """Predict a split in eval mode, without augmentation and auxiliary head: float32 ``[N, C]``."""
    model.eval()
    set_aux(model, enabled=False)
    parts = []
    with torch.inference_mode():
        for images, _ in eval_batches(source, batch_size=EVAL_BATCH, normalisation=normalisation, device=device):
            parts.append(cast("Tensor", model(images)).float().cpu().numpy())
    return np.concatenate(parts)
