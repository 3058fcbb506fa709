"""The classifier alone, fitted to features of the frozen layers, which are computed once (linear probing)."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from imgcls.data.augment import POLICIES
from imgcls.data.loaders import SAMPLERS, Batch, shuffled, train_batches
from imgcls.errors import NonFiniteLossError
from imgcls.evaluation.forward import EVAL_BATCH
from imgcls.models.building import set_aux
from imgcls.training.events import EpochResult, HeadResult
from imgcls.training.heads.gradient import fit_by_gradient, plain_batches
from imgcls.training.losses import class_loss
from imgcls.training.plan import TrainingPlan, mixed

LOGGER = logging.getLogger(__name__)

PENALTIES: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""L2 penalties of the classifier's weights, relative to the mean loss; the best by validation accuracy is chosen."""

MAX_ITERATIONS: Final = 200

RESOLVED: Final = 1e-3
"""Smallest standard deviation of a feature, relative to its mean, that is used to standardise it."""


Features = tuple[list[Tensor], Tensor]
"""The inputs of each head, float32 ``[N, F]``, and the labels, int64 ``[N]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fit:
    """A classifier of standardised features: weights ``[C, F]`` and biases ``[C]``, its penalty and its scores."""

    penalty: float
    weight: Tensor
    bias: Tensor
    train_logits: Tensor
    val_logits: Tensor
    val_loss: float
    val_top1_accuracy: float


def fit_head(model: nn.Module, plan: TrainingPlan) -> HeadResult:
    """Fit the classifier of ``model`` alone.

    Each linear head is fitted by itself, as a logistic regression on standardised features of
    ``plan.train.feature_views`` views of each train image, with the L2 penalty that is best on val. A classifier that
    does not consist of linear heads is trained by gradient (``fit_by_gradient``), and so is one whose network does not
    reproduce the fitted logits, for example because its features vary by less than float32 resolves.
    """
    if not plan.spec.structure.heads:
        return HeadResult(method="gradient", epoch=fit_by_gradient(model, plan))
    heads = [model.get_submodule(name) for name in plan.spec.structure.heads]
    initial = [{key: tensor.clone() for key, tensor in head.state_dict().items()} for head in heads]
    fitted, val_logits = _fit_linear(model, heads, plan)
    if _is_reproduced(model, val_logits, plan):
        return HeadResult(method="linear", epoch=fitted)
    LOGGER.warning("  classifier: the network does not reproduce the logits of its linear heads; trained by gradient")
    for head, state in zip(heads, initial, strict=True):
        head.load_state_dict(state)
    trained = fit_by_gradient(model, plan)
    costs = {name: getattr(fitted, name) + getattr(trained, name) for name in ("images", "train_time_s", "eval_time_s")}
    return HeadResult(method="gradient", epoch=replace(trained, **costs))


def _fit_linear(model: nn.Module, heads: Sequence[nn.Module], plan: TrainingPlan) -> tuple[EpochResult, Tensor]:
    """Fit linear heads and put the fits into them; return the result and the logits on val, float32 ``[N, C]``."""
    started = time.perf_counter()
    parts = [_features(model, heads, batches) for batches in _views(plan)]
    features = [torch.cat(views) for views in zip(*(part[0] for part in parts), strict=True)]
    labels = torch.cat([part[1] for part in parts])
    passed = time.perf_counter()
    val, val_labels = _features(model, heads, plain_batches(plan.val_source, plan))
    scored = time.perf_counter()
    if not all(torch.isfinite(values).all() for values in (*features, *val)):
        message = "the features of the pre-trained layers are not finite; use other weights"
        raise NonFiniteLossError(message)
    # A sampler draws from the features, so that each image passes the network once.
    generator = torch.Generator().manual_seed(mixed(plan.seed, 0, 4))
    drawn = SAMPLERS.get(plan.train.imbalance, shuffled)(labels.cpu(), generator).to(labels.device)
    fits = [
        _put_best(head, (own[drawn], labels[drawn]), (own_val, val_labels), plan)
        for head, own, own_val in zip(heads, features, val, strict=True)
    ]
    train_logits, val_logits = (
        torch.stack([getattr(fit, name) for fit in fits]).mean(dim=0) for name in ("train_logits", "val_logits")
    )
    fitted_s = time.perf_counter() - scored
    accuracy = (val_logits.argmax(dim=1) == val_labels).double().mean().item()
    LOGGER.info(
        "  classifier: fitted to the features of %d images in %.1f s, which took %.1f s; L2 penalty %s, val %.1f %%",
        *(len(labels), fitted_s, scored - started, ", ".join(f"{fit.penalty:g}" for fit in fits), 100 * accuracy),
    )
    result = EpochResult(
        epoch=1,
        train_loss=class_loss(train_logits, labels[drawn], plan).item(),
        val_loss=functional.cross_entropy(val_logits, val_labels).item(),
        val_top1_accuracy=accuracy,
        lr=0.0,
        train_time_s=passed - started + fitted_s,
        eval_time_s=scored - passed,
        images=len(labels),
    )
    return result, val_logits


def _views(plan: TrainingPlan) -> Iterator[Iterator[Batch]]:
    yield plain_batches(plan.train_source, plan)
    # ``train_batches`` drops a last batch of a single image.
    size = EVAL_BATCH - 1 if len(plan.train_source) % EVAL_BATCH == 1 else EVAL_BATCH
    for view in range(1, plan.train.feature_views):
        yield train_batches(
            plan.train_source,
            policy=POLICIES[plan.train.augmentation],
            hflip=not plan.train.no_hflip,
            batch_size=size,
            normalisation=plan.spec.normalisation,
            device=plan.device,
            generator=torch.Generator().manual_seed(mixed(plan.seed, view, 2)),
        )


def _features(model: nn.Module, heads: Sequence[nn.Module], batches: Iterator[Batch]) -> Features:
    model.eval()
    set_aux(model, enabled=False)
    kept: list[list[Tensor]] = [[] for _ in heads]
    labels = []

    def keep(parts: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor]], None]:
        # The input of a 1 x 1 convolution is a map of one place.
        return lambda _head, inputs: parts.append(inputs[0].flatten(1).float())

    hooks = [head.register_forward_pre_hook(keep(parts)) for head, parts in zip(heads, kept, strict=True)]
    try:
        with torch.inference_mode():
            for images, targets in batches:
                model(images)
                labels.append(targets)
    finally:
        for hook in hooks:
            hook.remove()
    # Tensors of inference mode take no part in the fit's gradients.
    return [torch.cat(parts).clone() for parts in kept], torch.cat(labels).clone()


def _is_reproduced(model: nn.Module, expected: Tensor, plan: TrainingPlan) -> bool:
    """Return whether the network's own logits are those of the fitted heads, on a batch of val images."""
    images, _ = next(iter(plain_batches(plan.val_source, plan)))
    with torch.inference_mode():
        logits = cast("Tensor", model(images)).float()
    return torch.allclose(logits, expected[: len(logits)], rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def _put_best(head: nn.Module, train: Batch, val: Batch, plan: TrainingPlan) -> _Fit:
    """Put the best fit into a head, whose features are not standardised: the scales go into the weights."""
    mean = train[0].mean(dim=0)
    # Features that are 0 in every image have no variance, and what varies by less than float32 resolves is rounding.
    std = train[0].std(dim=0).maximum(RESOLVED * mean.abs()).clamp_min(1e-6)
    best = _best(((train[0] - mean) / std, train[1]), ((val[0] - mean) / std, val[1]), plan)
    weight, bias = cast("Tensor", head.weight), cast("Tensor", head.bias)
    with torch.no_grad():
        weight.copy_((best.weight / std).view_as(weight))
        bias.copy_(best.bias - (best.weight / std) @ mean)
    return best


def _best(train: Batch, val: Batch, plan: TrainingPlan) -> _Fit:
    """Return the fit with the highest validation accuracy; of several, the one with the lowest validation loss."""
    features = train[0]
    weight = features.new_zeros(plan.num_classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(plan.num_classes, requires_grad=True)
    # From the strongest penalty on, each fit starts at the one before it, which is near.
    fits = [_fit(penalty, weight, bias, train=train, val=val, plan=plan) for penalty in PENALTIES]
    return max(fits, key=lambda fit: (fit.val_top1_accuracy, -fit.val_loss))


def _fit(  # noqa: PLR0913 - a problem and its start
    penalty: float, weight: Tensor, bias: Tensor, *, train: Batch, val: Batch, plan: TrainingPlan
) -> _Fit:
    """Minimise the mean loss plus half the penalty times the squared weights, in place."""
    # Own lines instead of scikit-learn's, which has no classifier for a class without train images.
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = class_loss(functional.linear(train[0], weight, bias), train[1], plan)
        total = loss + penalty / 2 * weight.square().sum()
        torch.autograd.backward(total)
        return total

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        logits = functional.linear(val[0], weight, bias)
        return _Fit(
            penalty=penalty,
            weight=weight.detach().clone(),
            bias=bias.detach().clone(),
            train_logits=functional.linear(train[0], weight, bias),
            val_logits=logits,
            val_loss=functional.cross_entropy(logits, val[1]).item(),
            val_top1_accuracy=(logits.argmax(dim=1) == val[1]).double().mean().item(),
        )
