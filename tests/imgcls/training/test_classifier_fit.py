"""The classifier alone: several linear heads, each fitted by itself, and classifiers that are trained by gradient."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from imgcls.config import TrainConfig
from imgcls.models.building import build_model
from imgcls.models.heads import linear_heads
from imgcls.models.structure import Structure
from imgcls.training.heads.linear import fit_head
from imgcls.training.loop import train
from imgcls.training.plan import HEAD_EPOCHS
from tests.helpers.trainings import MODEL, PX, setting, source, spec

FROZEN = TrainConfig(tune_layers="head", norm="frozen", augmentation="none")
BY_GRADIENT = replace(spec(), structure=replace(spec().structure, heads=()))


class Twins(nn.Module):
    """The tiny network with a second head for the halved features, and the mean of both as its output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = build_model(spec(), MODEL, num_classes=3)
        self.first, self.second = nn.Linear(256, 3), nn.Linear(256, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.body.forward_head(self.body.forward_features(images), pre_logits=True)  # type: ignore[operator]
        mean: torch.Tensor = (self.first(features) + self.second(features / 2)) / 2
        return mean


def test_each_head_is_fitted_by_itself(tmp_path: Path) -> None:
    network = Twins()
    assert list(linear_heads(network, torch.zeros(2, 3, PX, PX))) == ["first", "second"]
    ends = Structure(options={}, classifier=("first", "second"), heads=("first", "second"))
    result = fit_head(network, setting(tmp_path, train=FROZEN, spec=replace(spec(), structure=ends))).epoch
    assert result.val_top1_accuracy == 1.0
    # Standardised, halved features are the same: both heads have the same function of the features.
    torch.testing.assert_close(network.second.weight, 2 * network.first.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.second.bias, network.first.bias, rtol=1e-3, atol=1e-4)


def test_gradient_changes_the_classifier_only(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build_model(spec(), MODEL, num_classes=3)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    result = fit_head(network, setting(tmp_path, train=FROZEN, spec=BY_GRADIENT)).epoch
    changed = {key for key, tensor in network.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert result.train_loss < math.log(3)
    assert result.images == HEAD_EPOCHS * 40


def test_gradient_keeps_the_best_epoch_on_val(tmp_path: Path) -> None:
    """Its scores are those of the network that is left."""
    torch.manual_seed(3)
    network = build_model(spec(), MODEL, num_classes=3)
    chosen = setting(tmp_path, train=FROZEN, spec=BY_GRADIENT)
    result = fit_head(network, chosen).epoch
    images = torch.from_numpy(chosen.val_source.pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec().normalisation.mean, spec().normalisation.std))
    with torch.inference_mode():
        predicted = network.eval()((images - mean) / std).argmax(dim=1)
    accuracy = (predicted == torch.from_numpy(chosen.val_source.labels)).double().mean().item()
    assert result.val_top1_accuracy == pytest.approx(accuracy)


def test_frozen_layers_with_a_classifier_trained_by_gradient(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = build_model(spec(), MODEL, num_classes=3)
    training = train(network, setting(tmp_path, train=FROZEN, spec=BY_GRADIENT))
    assert training.best_epoch == 1
    assert len(training.history) == 1


def test_budget_of_compute_counts_the_passes_of_the_gradient(tmp_path: Path) -> None:
    config = replace(FROZEN, tune_layers="head-then-all", budget="tmacs=0.01")
    fitted, by_gradient = (setting(tmp_path, train=config, spec=chosen, gmacs=0.01) for chosen in (spec(), BY_GRADIENT))
    assert fitted.duration.steps is not None
    assert by_gradient.duration.steps is not None
    # A step is three forward passes of its 8 images.
    fewer = (HEAD_EPOCHS - 1) * len(source(40, 1)) / (3 * 8)
    assert fitted.duration.steps - by_gradient.duration.steps == pytest.approx(fewer, abs=1)


def test_features_that_hardly_vary_do_not_spoil_the_fit(tmp_path: Path) -> None:
    """Scaled up to unit variance, they would need weights whose rounding exceeds the logits."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.classifier = nn.Linear(200, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            brightness = images.mean(dim=(1, 2, 3))[:, None]
            # The first feature says the class; the others are large, and vary by about their rounding.
            features = torch.cat([brightness, 1000 + 1e-3 * brightness * torch.ones(199)], dim=1)
            logits: torch.Tensor = self.classifier(features)
            return logits

    ends = Structure(options={}, classifier=("classifier",), heads=("classifier",))
    result = fit_head(Constant(), setting(tmp_path, train=FROZEN, spec=replace(spec(), structure=ends))).epoch
    assert result.val_top1_accuracy == 1.0
