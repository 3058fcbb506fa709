"""Predictions of a model for the images of a split."""

from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imgcls.data.augment import Normalisation
from imgcls.data.loaders import Source, eval_batches
from imgcls.data.prepared import Prepared
from imgcls.devices import without_tf32
from imgcls.evaluation.predictions import Predictions, load_predictions, predictions_file, save_predictions
from imgcls.models.building import load_trained, memory_format, set_aux
from imgcls.models.registry import ModelSpec

EVAL_BATCH: Final = 64


def logits_of(
    model: nn.Module, source: Source, *, normalisation: Normalisation, device: torch.device
) -> NDArray[np.float32]:
    """Return the logits of a split, float32 ``[N, C]``, in eval mode, without augmentation or auxiliary head."""
    model.eval()
    # In eval mode too, timm's Inception V3 with an auxiliary head returns a tuple.
    set_aux(model, enabled=False)
    parts = []
    with torch.inference_mode():
        for images, _ in eval_batches(source, batch_size=EVAL_BATCH, normalisation=normalisation, device=device):
            parts.append(cast("Tensor", model(images)).float().cpu().numpy())
    return np.concatenate(parts)


def reference_logits(weights: Path, source: Source, *, spec: ModelSpec, device: torch.device) -> NDArray[np.float32]:
    """Return the logits of the weights in a file, float32 ``[N, C]``, to which exported models are compared."""
    model = load_trained(weights)
    model.to(device).to(memory_format=memory_format(spec.structure, spec.resize.size))
    # Rounding to TF32 may exceed the limit of that comparison.
    with without_tf32():
        return logits_of(model, source, normalisation=spec.normalisation, device=device)


def predict_split(weights: Path, data: Prepared, split: str, *, spec: ModelSpec, device: torch.device) -> Predictions:
    """Predict a split with the weights in a file, or read its predictions if they are stored beside that file."""
    # Stored, so that the test split is predicted once, also if the run is interrupted later and resumed.
    path = predictions_file(weights.parent, split)
    if not path.exists():
        source = data.source(split)
        predictions = Predictions(
            image_ids=data.image_ids(split),
            labels=source.labels,
            logits=reference_logits(weights, source, spec=spec, device=device),
            groups=data.groups(split),
            leaked=data.leaked(split),
        )
        save_predictions(predictions, path)
    return load_predictions(path)
