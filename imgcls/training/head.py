"""The classifier alone, fitted to features of the frozen layers, which are computed once (linear probing)."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.data.augment import POLICIES
from imgcls.data.loaders import SAMPLERS, Batch, Source, eval_batches, shuffled, train_batches
from imgcls.errors import NonFiniteLossError, RunError
from imgcls.evaluation.forward import EVAL_BATCH
from imgcls.models.building import set_aux
from imgcls.training.events import EpochResult
from imgcls.training.losses import class_loss
from imgcls.training.setup import TrainingSetup, mixed

LOGGER = logging.getLogger(__name__)

PENALTIES: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""L2 penalties of the classifier's weights, relative to the mean loss; the best by validation accuracy is chosen."""

MAX_ITERATIONS: Final = 200


class TimmModel(Protocol):
    """The methods of every timm classifier that split it into features and classifier."""

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images ``[B, 3, S, S]`` to feature maps."""

    def forward_head(self, features: Tensor, *, pre_logits: bool) -> Tensor:
        """Map feature maps to logits, or to the input of the classifier ``[B, F]``."""

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """A classifier of standardised features: weights ``[C, F]`` and biases ``[C]``, its penalty and its scores."""

    penalty: float
    weight: Tensor
    bias: Tensor
    val_logits: Tensor
    train_loss: float
    val_loss: float
    val_top1_accuracy: float


def fit_head(model: nn.Module, setup: TrainingSetup) -> EpochResult:
    """Fit the linear classifier of ``model`` to ``setup.train.feature_views`` views of each train image.

    It is a logistic regression on standardised features, with the L2 penalty that is best on val. Returns its scores,
    and its cost including all passes over the images.
    """
    classifier = cast("TimmModel", model).get_classifier()
    assert isinstance(classifier, nn.Linear), "require_classifier refuses other models"
    started = time.perf_counter()
    parts = [_features(model, batches) for batches in _views(setup)]
    features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    passed = time.perf_counter()
    val = _features(model, _plain(setup.val_source, setup))
    scored = time.perf_counter()
    if not torch.isfinite(features).all() or not torch.isfinite(val[0]).all():
        message = "the features of the pre-trained layers are not finite; use other weights"
        raise NonFiniteLossError(message)
    # Drawn from the features: each image passes the network once, however often it is drawn.
    drawn = SAMPLERS.get(setup.train.imbalance, shuffled)(
        labels.cpu(), torch.Generator().manual_seed(mixed(setup.seed, 0, 4))
    ).to(labels.device)
    best = _put_best(classifier, (features[drawn], labels[drawn]), val, setup)
    _require_same(model, best.val_logits, setup)
    fitted_s = time.perf_counter() - scored
    LOGGER.info(
        "  classifier: fitted to the features of %d images in %.1f s, which took %.1f s; L2 penalty %g, val %.1f %%",
        *(len(features), fitted_s, scored - started, best.penalty, 100 * best.val_top1_accuracy),
    )
    return EpochResult(
        epoch=1,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        val_top1_accuracy=best.val_top1_accuracy,
        lr=0.0,
        train_time_s=passed - started + fitted_s,
        eval_time_s=scored - passed,
        images=len(features),
    )


def _views(setup: TrainingSetup) -> Iterator[Iterator[Batch]]:
    yield _plain(setup.train_source, setup)
    # ``train_batches`` drops a last batch of a single image.
    size = EVAL_BATCH - 1 if len(setup.train_source) % EVAL_BATCH == 1 else EVAL_BATCH
    for view in range(1, setup.train.feature_views):
        yield train_batches(
            setup.train_source,
            policy=POLICIES[setup.train.augmentation],
            hflip=not setup.train.no_hflip,
            batch_size=size,
            normalisation=setup.normalisation,
            device=setup.device,
            generator=torch.Generator().manual_seed(mixed(setup.seed, view, 2)),
        )


def _plain(source: Source, setup: TrainingSetup) -> Iterator[Batch]:
    return eval_batches(source, batch_size=EVAL_BATCH, normalisation=setup.normalisation, device=setup.device)


def _features(model: nn.Module, batches: Iterator[Batch]) -> Batch:
    """Return the input of the classifier for each image, float32 ``[N, F]``, and the labels, int64 ``[N]``."""
    model.eval()
    set_aux(model, enabled=False)
    forward = cast("TimmModel", model)
    parts = []
    with torch.inference_mode():
        for images, labels in batches:
            features = forward.forward_head(forward.forward_features(images), pre_logits=True)
            parts.append((features.float(), labels))
    features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    # Tensors of inference mode take no part in the fit's gradients.
    return features.clone(), labels.clone()


def _require_same(model: nn.Module, expected: Tensor, setup: TrainingSetup) -> None:
    """Raise RunError unless the network's own logits are those of the fitted classifier, on a batch of val images."""
    images, _ = next(iter(_plain(setup.val_source, setup)))
    with torch.inference_mode():
        logits = cast("Tensor", model(images)).float()
    # Some networks add the output of other layers to that of their last one.
    if not torch.allclose(logits, expected[: len(logits)], rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
        message = "--tune-layers: the network's logits are not those of its last linear layer; use --tune-layers all"
        raise RunError(message)


def _put_best(classifier: nn.Linear, train: Batch, val: Batch, setup: TrainingSetup) -> _Fit:
    """Put the best fit into the classifier, whose features are not standardised: the scales go into the weights."""
    # Features that are 0 in every image have no variance.
    mean, std = train[0].mean(dim=0), train[0].std(dim=0).clamp_min(1e-6)
    best = _best(((train[0] - mean) / std, train[1]), ((val[0] - mean) / std, val[1]), setup)
    with torch.no_grad():
        classifier.weight.copy_(best.weight / std)
        classifier.bias.copy_(best.bias - (best.weight / std) @ mean)
    return best


def _best(train: Batch, val: Batch, setup: TrainingSetup) -> _Fit:
    """Return the fit with the highest validation accuracy; of several, the one with the lowest validation loss."""
    features = train[0]
    weight = features.new_zeros(setup.num_classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(setup.num_classes, requires_grad=True)
    # From the strongest penalty on, each fit starts at the one before it, which is near.
    fits = [_fit(penalty, weight, bias, train=train, val=val, setup=setup) for penalty in PENALTIES]
    return max(fits, key=lambda fit: (fit.val_top1_accuracy, -fit.val_loss))


def _fit(  # noqa: PLR0913 - a problem and its start
    penalty: float, weight: Tensor, bias: Tensor, *, train: Batch, val: Batch, setup: TrainingSetup
) -> _Fit:
    """Minimise the mean loss plus half the penalty times the squared weights, in place."""
    # Own lines instead of scikit-learn's, which has no classifier for a class without train images.
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = class_loss(functional.linear(train[0], weight, bias), train[1], setup)
        total = loss + penalty / 2 * weight.square().sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        train_loss = class_loss(functional.linear(train[0], weight, bias), train[1], setup)
        logits = functional.linear(val[0], weight, bias)
        return _Fit(
            penalty=penalty,
            weight=weight.detach().clone(),
            bias=bias.detach().clone(),
            val_logits=logits,
            train_loss=train_loss.item(),
            val_loss=functional.cross_entropy(logits, val[1]).item(),
            val_top1_accuracy=(logits.argmax(dim=1) == val[1]).double().mean().item(),
        )
