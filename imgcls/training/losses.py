"""Training loss: cross-entropy, and the weighted loss of an auxiliary head."""

from torch import Tensor
from torch.nn import functional

from imgcls.training.setup import TrainingSetup

Outputs = Tensor | tuple[Tensor, Tensor]
"""Logits ``[B, C]``, or (logits, auxiliary logits) of a network with an enabled auxiliary head."""


def training_loss(outputs: Outputs, labels: Tensor, setup: TrainingSetup) -> Tensor:
    """Return the scalar loss of a batch; ``labels`` are int64 ``[B]``.

    The auxiliary loss is weighted by ``architecture.aux_weight`` (Szegedy et al. 2015), and targets are smoothed by
    ``train.label_smoothing`` (Szegedy et al. 2016). A new loss is a function beside ``_cross_entropy``, selected here.
    """
    smoothing = setup.train.label_smoothing
    if isinstance(outputs, Tensor):
        return _cross_entropy(outputs, labels, smoothing)
    logits, aux_logits = outputs
    main, auxiliary = (_cross_entropy(each, labels, smoothing) for each in (logits, aux_logits))
    return main + setup.architecture.aux_weight * auxiliary


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
