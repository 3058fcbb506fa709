"""Fine-tuning: layer-wise rates, warm-up, the head first or alone, averages of weights, micro-batches, precision."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from imgcls.config import ArchitectureConfig, LoaderConfig, Norm, Precision, TrainConfig
from imgcls.data.loaders import Source
from imgcls.errors import ConfigError, NonFiniteLossError, OutOfMemoryError
from imgcls.evaluation.forward import logits_of
from imgcls.evaluation.metrics import top1_accuracy
from imgcls.models.building import build_model, require_pretrained
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from imgcls.training import loop, precision, steps
from imgcls.training.events import EpochResult, HeadFit, Step
from imgcls.training.fitting import fit
from imgcls.training.heads import linear as head
from imgcls.training.optimizers import adamw, cosine
from imgcls.training.plan import Spent, Training
from tests.helpers.gpus import usable_by_torch
from tests.helpers.trainings import CPU, MODEL, PX, run, same, setting, source, spec

FINE = TrainConfig(epochs=2, lr=1e-3, optimizer="adamw", schedule="cosine", select="last")


def network() -> nn.Module:
    torch.manual_seed(3)
    return build_model(spec(), MODEL, num_classes=3)


def tensors(training: Training, part: str) -> list[torch.Tensor]:
    return [training.state[key] for key in sorted(training.state) if part in key]


def equal(first: Training, second: Training, part: str) -> bool:
    return all(map(torch.equal, tensors(first, part), tensors(second, part)))


def test_learning_rate_falls_from_the_classifier_to_the_first_layer() -> None:
    model = network()
    groups = adamw(model, replace(FINE, weight_decay=0.1, layer_decay=0.5)).param_groups
    theirs = param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.5)
    assert [group["lr"] for group in groups] == [FINE.lr * group["lr_scale"] for group in theirs]
    assert max(group["lr"] for group in groups) == FINE.lr
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    by_name = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert by_name["classifier.weight"] == FINE.lr
    assert by_name["conv_stem.weight"] < by_name["blocks.1.0.conv_exp.weight"] < by_name["classifier.weight"]
    decays = {group["weight_decay"] for group in groups for tensor in group["params"] if tensor.ndim > 1}
    assert decays == {0.1}
    assert {group["weight_decay"] for group in groups for tensor in group["params"] if tensor.ndim == 1} == {0.0}


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_cosine_with_warm_up_is_that_of_timm(warmup: float, tmp_path: Path) -> None:
    chosen = setting(tmp_path, train=replace(FINE, epochs=4, warmup=warmup))
    steps = 4 * chosen.steps_per_epoch
    rising = round(warmup * steps)
    ours = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = cosine(ours, chosen, Spent(duration=chosen.duration))
    oracle = CosineLRScheduler(
        theirs,
        t_initial=steps - rising,
        warmup_t=rising,
        warmup_lr_init=1 / (rising + 1),
        warmup_prefix=True,
        t_in_epochs=False,
    )
    rates = []
    for step in range(steps):
        rates.append(ours.param_groups[0]["lr"])
        assert rates[-1] == pytest.approx(theirs.param_groups[0]["lr"])
        ours.step()
        schedule.step()
        oracle.step_update(step + 1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.05
    assert rates.index(max(rates)) == rising


def test_head_is_the_logistic_regression_of_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """scikit-learn's solution, for a single penalty."""
    penalty = 0.1
    monkeypatch.setattr(head, "PENALTIES", (penalty,))
    model, chosen = network().eval(), setting(tmp_path, train=replace(FINE, tune_layers="head"))
    features = features_of(model, chosen.train_source.pixels, chosen.spec.normalisation)
    mean, std = features.mean(axis=0), features.std(axis=0, ddof=1)
    scaled = (features - mean) / std
    labels = chosen.train_source.labels
    oracle = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=5000).fit(scaled, labels)
    result = head.fit_head(model, chosen).epoch
    logits = logits_of(model, chosen.train_source, normalisation=chosen.spec.normalisation, device=CPU)
    ours = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
    np.testing.assert_allclose(ours, oracle.predict_proba(scaled), atol=2e-3)
    val = logits_of(model, chosen.val_source, normalisation=chosen.spec.normalisation, device=CPU)
    assert result.val_top1_accuracy == top1_accuracy(val, chosen.val_source.labels)
    assert result.images == len(labels)


def features_of(model: Any, pixels: Any, normalisation: Any) -> Any:
    from imgcls.data.augment import normalise

    with torch.inference_mode():
        maps = model.forward_features(normalise(torch.from_numpy(pixels), normalisation))
        return model.forward_head(maps, pre_logits=True).numpy()


def test_only_the_head_is_tuned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = build_model(spec(), MODEL, num_classes=3).state_dict()
    training = run(setting(tmp_path, train=replace(FINE, tune_layers="head")))
    changed = {key for key, tensor in training.state.items() if not torch.equal(tensor, before[key])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert (len(training.history), training.best_epoch, training.steps) == (1, 1, 0)
    assert training.history[0].val_top1_accuracy > 0.5


def test_more_views_are_augmented_images(tmp_path: Path) -> None:
    events: list[EpochResult] = []

    def views(count: int) -> Training:
        chosen = replace(FINE, tune_layers="head", feature_views=count, augmentation="crop")
        return run(setting(tmp_path / str(count), train=chosen, report=events.append))

    one, three, again = views(1), views(3), views(3)
    assert [event.images for event in events] == [40, 120, 120]
    assert not equal(one, three, "classifier")
    assert equal(three, again, "classifier")


def test_head_then_all_starts_from_the_fitted_head(tmp_path: Path) -> None:
    first = replace(FINE, epochs=1, lr=1e-12, tune_layers="head-then-all", norm="frozen")
    fitted = run(setting(tmp_path / "a", train=replace(first, tune_layers="head")))
    training = run(setting(tmp_path / "b", train=first))
    assert training.head_time_s > 0
    assert fitted.head_time_s == 0
    assert training.history[0].val_top1_accuracy == fitted.history[0].val_top1_accuracy
    for ours, theirs in zip(tensors(training, "classifier"), tensors(fitted, "classifier"), strict=True):
        torch.testing.assert_close(ours, theirs)


class StoppedError(Exception):
    """Interrupts a training."""


def after(epoch: int) -> Callable[[object], None]:
    def report(event: object) -> None:
        if isinstance(event, EpochResult) and event.epoch == epoch:
            raise StoppedError

    return report


def test_resumed_fine_tuning_ends_the_same(tmp_path: Path) -> None:
    config = replace(
        FINE,
        epochs=3,
        tune_layers="head-then-all",
        layer_decay=0.8,
        warmup=0.3,
        ema=0.9,
        augmentation="trivialaugment",
        precision="bf16",
    )
    whole = run(setting(tmp_path / "a", train=config))
    with pytest.raises(StoppedError):
        run(setting(tmp_path / "b", train=config, report=after(2)))
    resumed = run(setting(tmp_path / "b", train=config))
    assert same(whole, resumed)
    assert resumed.resumed_from == (2,)
    assert resumed.head_time_s > 0


def test_ema_is_what_is_evaluated_and_kept(tmp_path: Path) -> None:
    """The average lags behind the weights: with a decay near 1 it stays near them as they were at the start."""
    plain = run(setting(tmp_path / "a", train=replace(FINE, lr=1e-2)))
    averaged = run(setting(tmp_path / "b", train=replace(FINE, lr=1e-2, ema=0.999)))
    torch.manual_seed(0)
    start = build_model(spec(), MODEL, num_classes=3).state_dict()
    assert plain.history[0].train_loss == averaged.history[0].train_loss
    assert plain.history[0].val_loss != averaged.history[0].val_loss

    def distance(training: Training) -> float:
        return sum(float((tensor - start[key]).abs().sum()) for key, tensor in training.state.items() if "conv" in key)

    assert 0 < distance(averaged) < distance(plain)


def test_frozen_norms_keep_their_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = build_model(spec(), MODEL, num_classes=3).state_dict()
    frozen = run(setting(tmp_path / "a", train=replace(FINE, norm="frozen")))
    plain = run(setting(tmp_path / "b", train=FINE))
    kept = [torch.equal(tensor, start[key]) for key, tensor in frozen.state.items() if "running_" in key]
    assert all(kept)
    assert not any(torch.equal(tensor, start[key]) for key, tensor in plain.state.items() if "running_" in key)
    assert not any(map(torch.equal, tensors(frozen, "bn1.weight"), [start["bn1.weight"]]))


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_micro_batches_sum_to_the_gradient_of_the_batch(norm: Norm, tmp_path: Path) -> None:
    """Without batch statistics the step is that of the whole batch; with them it is not, as the help says."""
    config = replace(FINE, epochs=1, norm=norm)
    architecture = ArchitectureConfig(dropout=0.0)

    def loss(micro_batch: int | None) -> float:
        loader = LoaderConfig(image_size=PX, batch_size=8, micro_batch=micro_batch)
        chosen = setting(tmp_path / str(micro_batch), train=config, loader=loader, architecture=architecture)
        torch.manual_seed(0)
        model = build_model(spec(), architecture, num_classes=3)
        return loop.train(model, chosen).history[0].train_loss

    assert (loss(4) == pytest.approx(loss(None), rel=1e-4)) is (norm == "frozen")


@pytest.mark.parametrize("count", range(2, 34))
def test_no_micro_batch_holds_a_single_image(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = steps.training_loss

    def recording(outputs: Any, labels: torch.Tensor, chosen: Any) -> torch.Tensor:
        sizes.append(len(labels))
        return real(outputs, labels, chosen)

    monkeypatch.setattr(steps, "training_loss", recording)
    loader = LoaderConfig(image_size=PX, batch_size=32, micro_batch=8)
    tiny = setting(tmp_path, train=replace(FINE, epochs=1), loader=loader, train_source=source(count, 1))
    loop.train(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)), tiny)
    assert sum(sizes) in {count, count - 1}  # a last batch of one image is dropped
    assert min(sizes) >= 2
    assert max(sizes) <= 8


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_lack_of_memory_names_the_remedy(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(steps, "training_loss", fail)
    remedy = rf"training with 8 images of {PX} px at once; a smaller micro-batch or image size needs less"
    with pytest.raises(OutOfMemoryError, match=remedy):
        fitted(tmp_path)


def test_lack_of_memory_outside_a_step_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loop, "fit_head", fail)
    with pytest.raises(OutOfMemoryError, match="out of memory in training"):
        fitted(tmp_path, train=replace(FINE, tune_layers="head-then-all"))


def test_other_errors_stay_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        message = "shapes differ"
        raise RuntimeError(message)

    monkeypatch.setattr(steps, "training_loss", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        fitted(tmp_path)


def fitted(folder: Path, train: TrainConfig | None = None) -> Training:
    """Train through ``fit``."""
    return fit(setting(folder, train=train))


@pytest.mark.parametrize("reduced", ["bf16", "fp16"])
def test_reduced_precision_rounds_but_learns(reduced: str, tmp_path: Path) -> None:
    config = TrainConfig(epochs=8, lr=1e-2, lr_patience=8)
    exact, rounded = (
        run(setting(tmp_path / name, train=replace(config, precision=name))).history  # type: ignore[arg-type]
        for name in ("fp32", reduced)
    )
    assert exact[0].train_loss != rounded[0].train_loss
    assert rounded[-1].train_loss < rounded[0].train_loss / 2


def test_fp16_scales_the_loss(tmp_path: Path) -> None:
    """A step whose gradients overflow is left out, and the next one has a smaller scale; a resumed run continues it."""
    config = TrainConfig(epochs=3, lr=1e-2, lr_patience=8, precision="fp16")
    whole = run(setting(tmp_path / "whole", train=config))
    with pytest.raises(StoppedError):
        run(setting(tmp_path / "stopped", train=config, report=after(2)))
    scaler = torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)["scaler"]
    assert scaler["_growth_tracker"] > 0
    assert same(whole, run(setting(tmp_path / "stopped", train=config)))


def test_float32_is_not_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every step, also in those before the first evaluation."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[bool] = []

    def report(event: object) -> None:
        if isinstance(event, Step):
            seen.append(torch.backends.cudnn.allow_tf32)

    fit(setting(tmp_path, report=report, epochs=1))
    assert set(seen) == {False}
    assert torch.backends.cudnn.allow_tf32


def decided(
    cache: Path, ratios: list[float] | None = None, *, reduced: Precision = "bf16", **changes: Any
) -> tuple[str, int]:
    """Return the precision, and the number of measurements that it took."""
    calls: list[int] = []

    def measure(*_arguments: object) -> precision.Speedup | None:
        calls.append(1)
        if ratios is None:
            return None
        return precision.Speedup(reduced=reduced, ratios=tuple(ratios)) if ratios else precision.Speedup()

    train = TrainConfig(precision="auto", device="cpu", train_threads=1)
    loader = LoaderConfig(image_size=32, batch_size=4)
    chosen = precision.decide(spec(), loader, replace(train, **changes), cache=cache, measure=measure)
    return chosen, len(calls)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([1.8, 1.6, 1.7], "bf16"), ([1.8, 0.9, 1.7], "fp32"), ([1.04, 1.04, 1.04], "fp32"), ([], "fp32")],
)
def test_precision_is_decided_once(ratios: list[float], expected: str, tmp_path: Path) -> None:
    assert decided(tmp_path, ratios) == (expected, 1)
    assert decided(tmp_path, [9.0]) == (expected, 0)
    assert decided(tmp_path, ratios, train_threads=2) == (expected, 1)
    assert decided(tmp_path, ratios, norm="frozen") == (expected, 1)


def test_frozen_features_are_in_fp32(tmp_path: Path) -> None:
    assert decided(tmp_path, [2.0], tune_layers="head") == ("fp32", 0)


def test_failed_measurement_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert decided(tmp_path, None) == ("fp32", 1)
    assert "could not be measured: trained in fp32" in caplog.text
    assert decided(tmp_path, [2.0]) == ("bf16", 1)


def test_decision_of_another_process_is_taken_over(tmp_path: Path) -> None:
    """The one that was made while this process waited for the machine."""

    @contextlib.contextmanager
    def alone() -> Iterator[None]:
        assert decided(tmp_path, [2.0]) == ("bf16", 1)
        yield

    train = TrainConfig(precision="auto", device="cpu", train_threads=1)
    loader = LoaderConfig(image_size=32, batch_size=4)
    chosen = precision.decide(spec(), loader, train, cache=tmp_path, measure=lambda *_: None, alone=alone)
    assert chosen == "bf16"


def test_precision_of_the_user_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "supports_bf16", lambda device: device == "cuda")
    assert decided(tmp_path, precision="fp32") == ("fp32", 0)
    with pytest.raises(ConfigError, match='precision="bf16": the cpu here has no bfloat16; use fp32 or auto'):
        decided(tmp_path, precision="bf16")
    with pytest.raises(ConfigError, match='precision="fp16": not on cpu; use fp32 or auto'):
        decided(tmp_path, precision="fp16")


def test_gpus_without_bf16_train_in_fp16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usable_by_torch(monkeypatch, capability=(7, 5))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: False)
    assert precision.reduced_precision("cuda") == "fp16"
    assert decided(tmp_path, [1.5], reduced="fp16") == ("fp16", 1)
    precision.check_precision(TrainConfig(device="cuda", precision="fp16"))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: True)
    assert precision.reduced_precision("cuda") == "bf16"


def test_speeds_are_those_of_training_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inception's auxiliary head is part of the step; a device without bfloat16 is not measured."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    loader = LoaderConfig(image_size=75, batch_size=2)
    train = TrainConfig(device="cpu", train_threads=1, norm="frozen")
    network = resolve_spec("inception_v3", loader, random_weights)
    # Every CPU computes in bfloat16, if need be slowly.
    monkeypatch.setattr(precision, "supports_bf16", lambda _device: True)
    measured = precision.speedup(network, loader, train)
    ratios = measured.ratios
    assert measured.reduced == "bf16"
    assert all(ratio > 0 for ratio in ratios)
    assert len(ratios) == precision.ROUNDS or ratios[-1] < precision.WORTHWHILE
    assert torch.equal(torch.rand(1), expected)
    monkeypatch.setattr(precision, "supports_bf16", lambda _device: False)
    assert precision.speedup(network, loader, train) == precision.Speedup()


def test_random_weights_have_no_features_to_fit() -> None:
    with pytest.raises(ConfigError, match="tune_layers: resnet50 starts from random weights; use all, or pre-trained"):
        require_pretrained(resolve_spec("resnet50", LoaderConfig(image_size=64), random_weights))


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_decay": 0.9, "optimizer": "adam"},
        {"warmup": 0.1, "schedule": "plateau"},
        {"feature_views": 2, "tune_layers": "all"},
        {"precision": "bf16", "tune_layers": "head"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_values_without_effect_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r'it has no effect: use \w+=(0|1|"fp32")$'):
        TrainConfig(**changes)


def test_warm_up_of_a_single_step_leaves_a_schedule(tmp_path: Path) -> None:
    config = replace(FINE, epochs=1, warmup=0.9)
    assert run(setting(tmp_path, train=config, train_source=source(4, 1))).history[0].train_loss > 0


@pytest.mark.parametrize("model", ["inception_v3", "test_vit"])
def test_head_of_other_networks(model: str, tmp_path: Path) -> None:
    """With an auxiliary head, whose network returns two outputs, and without convolutions."""
    size = 75 if model == "inception_v3" else 64
    chosen = resolve_spec(model, LoaderConfig(image_size=size), random_weights)
    pixels = {name: enlarged(source(count, seed), size) for name, count, seed in (("train", 12, 1), ("val", 6, 2))}
    plan = setting(
        tmp_path,
        train=replace(FINE, epochs=1, tune_layers="head-then-all", ema=0.9, norm="frozen"),
        spec=chosen,
        train_source=pixels["train"],
        val_source=pixels["val"],
        loader=LoaderConfig(image_size=size, batch_size=6),
        architecture=ArchitectureConfig(),
    )
    training = fit(plan)
    assert training.head_time_s > 0
    assert not any(key.startswith("AuxLogits") for key in training.state)


def enlarged(images: Source, size: int) -> Source:
    pixels = np.zeros((len(images.pixels), size, size, 3), dtype=np.uint8)
    pixels[:, :PX, :PX] = images.pixels
    return replace(images, pixels=pixels)


@pytest.mark.parametrize("classes", [2, 4])
def test_head_with_two_classes_and_with_one_that_train_lacks(classes: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build_model(spec(), MODEL, num_classes=classes)
    images = source(40, 1)
    known = images.labels < 2
    two = replace(images, indices=images.indices[known], labels=images.labels[known])
    result = head.fit_head(
        model,
        setting(
            tmp_path,
            train=replace(FINE, tune_layers="head"),
            num_classes=classes,
            train_source=two,
            val_source=two,
        ),
    ).epoch
    assert result.val_top1_accuracy == 1.0
    assert np.isfinite(result.train_loss)


def test_heads_whose_logits_the_network_does_not_reproduce_are_trained_by_gradient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Twofold(nn.Module):
        """Adds what no linear layer computes."""

        def __init__(self, network: Any) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images) + torch.tensor([5.0, 0.0, 0.0])

    frozen = replace(FINE, tune_layers="head")
    ends = replace(spec().structure, classifier=("network.classifier",), heads=("network.classifier",))
    twofold, by_gradient = (replace(spec(), structure=replace(ends, heads=heads)) for heads in (ends.heads, ()))
    result = head.fit_head(Twofold(network()), setting(tmp_path, train=frozen, spec=twofold))
    expected = head.fit_head(Twofold(network()), setting(tmp_path, train=frozen, spec=by_gradient))
    assert (result.method, expected.method) == ("gradient", "gradient")
    assert result.epoch.val_loss == expected.epoch.val_loss
    # The features were computed in vain, and are part of the cost.
    assert result.epoch.images == expected.epoch.images + 40
    assert "does not reproduce the logits" in caplog.text
    all_layers = setting(tmp_path / "all", train=replace(FINE, tune_layers="head-then-all"), spec=twofold)
    training = loop.train(Twofold(network()), all_layers)
    assert (training.classifier_fit, training.head_images) == ("gradient", result.epoch.images)


def test_budget_of_compute_contains_the_passes_that_the_classifier_took(tmp_path: Path) -> None:
    """Also where more were made than planned."""
    config = replace(FINE, tune_layers="head-then-all", budget="tmacs=0.01")
    planned, after = (
        setting(tmp_path, train=config, gmacs=0.01, head_images=images).duration.steps for images in (None, 280)
    )
    assert planned is not None
    assert after is not None
    # 40 images were planned; a step is three passes of 8 images.
    assert planned - after == (280 - 40) / (3 * 8)


def test_features_that_are_not_finite_end_the_training(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.conv_stem.weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(NonFiniteLossError, match="features of the pre-trained layers are not finite"):
        head.fit_head(model, setting(tmp_path, train=replace(FINE, tune_layers="head")))


def test_every_view_holds_every_image(tmp_path: Path) -> None:
    """Also where a batch of a single image would be left."""
    chosen = setting(tmp_path, train=replace(FINE, tune_layers="head", feature_views=2), train_source=source(65, 1))
    assert head.fit_head(network(), chosen).epoch.images == 130


def test_killed_head_fit_is_repeated(tmp_path: Path) -> None:
    config = replace(FINE, epochs=1, tune_layers="head-then-all")

    def stop(event: object) -> None:
        if isinstance(event, HeadFit):
            raise StoppedError

    with pytest.raises(StoppedError):
        run(setting(tmp_path / "stopped", train=config, report=stop))
    assert same(run(setting(tmp_path / "stopped", train=config)), run(setting(tmp_path / "whole", train=config)))


def test_checkpoint_of_an_older_version_is_resumed(tmp_path: Path) -> None:
    """It held neither an average nor the time of the classifier's fit."""
    whole = run(setting(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        run(setting(tmp_path / "old", report=after(2)))
    file = tmp_path / "old" / "state.pt"
    state = torch.load(file, weights_only=True)
    torch.save({key: value for key, value in state.items() if key not in {"ema", "head_time_s", "scaler"}}, file)
    assert same(whole, run(setting(tmp_path / "old")))
