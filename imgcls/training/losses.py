"""The training loop: one budget, the best or the last epoch, and a state that survives any kill.

Everything random is drawn from (seed, epoch), so that a run resumed after epoch k needs no generator's state
and ends with the weights of a run never stopped.
"""

from torch import Tensor, nn
from torch.nn import functional

from imgcls.training.loop import _autocast
from imgcls.training.setup import TrainingSetup


def _loss(model: nn.Module, images: Tensor, labels: Tensor, setup: TrainingSetup) -> Tensor:
    smoothing = setup.train.label_smoothing
    with _autocast(setup.device):
        outputs = model(images)
        if isinstance(outputs, tuple):
            logits, aux_logits = outputs
            aux_loss = functional.cross_entropy(aux_logits, labels, label_smoothing=smoothing)
            loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
            return loss + setup.architecture.aux_weight * aux_loss
        return functional.cross_entropy(outputs, labels, label_smoothing=smoothing)
