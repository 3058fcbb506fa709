"""Techniques against class imbalance: losses by their papers' formulas, samplers, and what each changes in training."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from imgcls.config import LoaderConfig
from imgcls.data.loaders import Source, balanced, share_of, undersampled
from imgcls.evaluation.forward import logits_of
from imgcls.models.building import build_model
from imgcls.training.fitting import fit
from imgcls.training.heads import linear as head
from imgcls.training.losses import LOSSES, class_loss, training_loss
from imgcls.training.plan import TrainingPlan
from tests.helpers.trainings import CPU, MODEL, PX, run, setting, spec

COUNTS = torch.tensor([8.0, 4.0, 1.0, 3.0])
LABELS = torch.tensor([0, 1, 2, 3, 0])


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def one_hot(labels: torch.Tensor = LABELS) -> torch.Tensor:
    return functional.one_hot(labels, 4).double()


def uneven(counts: tuple[int, ...]) -> Source:
    """Images whose brightness is a hint of their class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rng = np.random.default_rng(len(labels))
    brightness = np.clip(40 * labels + rng.normal(40, 40, len(labels)), 0, 200)
    pixels = rng.integers(0, 50, (len(labels), PX, PX, 3)) + brightness[:, None, None, None]
    return Source(pixels=pixels.astype(np.uint8), indices=np.arange(len(labels)), labels=labels)


def with_technique(folder: Path, name: str, **changes: object) -> TrainingPlan:
    chosen = setting(folder, train_source=uneven((60, 30, 6)), val_source=uneven((20, 20, 20)))
    return replace(chosen, train=replace(chosen.train, imbalance=name, **changes))


def test_losses_have_the_values_of_a_calculation_by_hand() -> None:
    """Two classes with 3 and 1 images; one image of the rare class, with probability 0.2."""
    scores = torch.tensor([[math.log(0.8), math.log(0.2)]], dtype=torch.float64)
    targets, counts = torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.tensor([3.0, 1.0])
    found = {name: loss(scores, targets, counts).item() for name, loss in LOSSES.items()}
    # The rare class is half as frequent as in balanced data: weight 4 / (2 * 1).
    assert found["class-weights"] == pytest.approx(-2 * math.log(0.2))
    assert found["focal"] == pytest.approx(-(0.8**2) * math.log(0.2))
    # With priors of 3/4 and 1/4: 0.2 * 1/4 over 0.8 * 3/4 + 0.2 * 1/4.
    assert found["logit-adjustment"] == pytest.approx(-math.log(0.05 / 0.65))
    assert found["balanced-softmax"] == pytest.approx(-math.log(0.2 / 2.6))


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    loss = LOSSES[name]
    assert torch.autograd.gradcheck(lambda scores: loss(scores, one_hot(), COUNTS.double()), logits().requires_grad_())


def test_balanced_softmax_and_logit_adjustment_are_one_loss() -> None:
    first, second = (LOSSES[name](logits(), one_hot(), COUNTS) for name in ("balanced-softmax", "logit-adjustment"))
    assert torch.allclose(first, second, rtol=1e-12)


def test_class_weights_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import log_loss
    from sklearn.utils.class_weight import compute_sample_weight

    labels = torch.arange(4).repeat_interleave(COUNTS.long())
    scores = torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = compute_sample_weight("balanced", labels.numpy())
    theirs = log_loss(labels.numpy(), scores.softmax(dim=1).numpy(), sample_weight=weights)
    assert LOSSES["class-weights"](scores, one_hot(labels), COUNTS).item() == pytest.approx(theirs)


def test_focal_loss_of_two_classes_is_that_of_torchvision() -> None:
    """The softmax of two logits is the sigmoid of their difference."""
    scores = logits()[:, :2]
    targets = torch.tensor([0, 1, 1, 0, 1])
    theirs = sigmoid_focal_loss(scores[:, 1] - scores[:, 0], targets.double(), alpha=-1, gamma=2, reduction="mean")
    assert torch.allclose(LOSSES["focal"](scores, functional.one_hot(targets, 2).double(), COUNTS[:2]), theirs)


@given(st.integers(0, 2**31), st.sampled_from(["class-weights", "logit-adjustment", "balanced-softmax"]))
def test_equal_classes_leave_cross_entropy(seed: int, name: str) -> None:
    even = torch.full((4,), 7.0, dtype=torch.float64)
    plain = functional.cross_entropy(logits(seed), LABELS)
    assert torch.allclose(LOSSES[name](logits(seed), one_hot(), even), plain)


@pytest.mark.parametrize("name", ["none", *LOSSES])
def test_class_without_train_images_has_a_finite_loss(name: str, tmp_path: Path) -> None:
    chosen = replace(with_technique(tmp_path, name, label_smoothing=0.1), num_classes=4)
    assert class_loss(logits(), LABELS, chosen).isfinite()


@pytest.mark.parametrize("name", ["none", *LOSSES])
def test_labels_are_probabilities_of_one_class(name: str, tmp_path: Path) -> None:
    chosen = replace(with_technique(tmp_path, name, label_smoothing=0.1), num_classes=4)
    soft, hard = (class_loss(logits(), targets, chosen) for targets in (one_hot(), LABELS))
    assert torch.allclose(soft, hard)


def test_auxiliary_head_has_the_same_loss(tmp_path: Path) -> None:
    chosen = replace(with_technique(tmp_path, "class-weights"), num_classes=4)
    main, auxiliary = (class_loss(logits(seed), LABELS, chosen) for seed in (0, 1))
    both = training_loss((logits(0), logits(1)), LABELS, chosen)
    assert torch.allclose(both, main + chosen.architecture.aux_weight * auxiliary)


def test_balanced_sampler_draws_every_class_equally_often() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([900, 90, 10]))
    drawn = labels[balanced(labels, torch.Generator().manual_seed(0))]
    assert len(drawn) == 1000
    # Three standard deviations of a binomial count.
    assert all(abs(int(count) - 333) < 45 for count in torch.bincount(drawn))


def test_undersampling_leaves_the_smallest_class_whole() -> None:
    whole = uneven((60, 30, 6))
    kept = undersampled(whole, seed=0)
    assert kept.counts(3).tolist() == [6, 6, 6]
    assert set(kept.indices) <= set(whole.indices)
    assert len(set(kept.indices)) == 18
    assert kept.indices[kept.labels == 2].tolist() == whole.indices[whole.labels == 2].tolist()
    assert undersampled(whole, seed=1).indices.tolist() != kept.indices.tolist()


@given(share=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_share_of_train_keeps_the_proportions_of_classes(share: float, seed: int) -> None:
    whole = uneven((60, 30, 6))
    kept = share_of(whole, share, seed)
    assert kept.counts(3).tolist() == [max(round(share * count), 1) for count in (60, 30, 6)]
    assert set(share_of(whole, share / 2, seed).indices) <= set(kept.indices)
    assert share_of(whole, 1.0, seed).indices.tolist() == whole.indices.tolist()


def test_training_on_a_share_of_train(tmp_path: Path) -> None:
    finished = fit(with_technique(tmp_path, "none", epochs=1, train_share=0.25))
    assert finished.history[0].images == 24  # 15, 8 and 2, without a last batch of one image


@pytest.mark.parametrize("name", ["class-weights", "balanced-sampler", "focal", "logit-adjustment"])
def test_technique_changes_training_and_is_deterministic(name: str, tmp_path: Path) -> None:
    plain, first, second = (
        run(with_technique(tmp_path / folder, technique))
        for folder, technique in (("a", "none"), ("b", name), ("c", name))
    )
    assert first.history[-1].train_loss == second.history[-1].train_loss != plain.history[-1].train_loss


@pytest.mark.parametrize("name", ["class-weights", "balanced-sampler", "logit-adjustment"])
def test_classifier_alone_predicts_the_minority_more_often(name: str, tmp_path: Path) -> None:
    def predicted(technique: str) -> int:
        chosen = with_technique(tmp_path / technique, technique, tune_layers="head")
        torch.manual_seed(0)
        model = build_model(spec(), MODEL, num_classes=3)
        head.fit_head(model, chosen)
        found = logits_of(model, chosen.val_source, normalisation=chosen.spec.normalisation, device=CPU)
        return int((found.argmax(axis=1) == 2).sum())

    assert predicted(name) > predicted("none")


def test_micro_batches_have_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    """Without batch statistics: torch's own weighted mean would divide each part by its own weights."""
    losses = []
    for size in (None, 4):
        chosen = with_technique(tmp_path / str(size), "class-weights", epochs=1, norm="frozen")
        loader = LoaderConfig(image_size=PX, batch_size=8, micro_batch=size)
        losses.append(run(replace(chosen, loader=loader)).history[-1].train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
