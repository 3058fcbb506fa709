"""Budgets of images, minutes and compute: where a training ends, its schedule, and what a resumed one has left."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imgcls.config import ArchitectureConfig, LoaderConfig, TrainConfig, parse_budget
from imgcls.errors import ConfigError
from imgcls.models import complexity
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from imgcls.training import loop, steps
from imgcls.training.events import EpochResult, Step
from imgcls.training.fitting import fit, gmacs_of
from imgcls.training.plan import Training, TrainingPlan
from tests.helpers.macs import counted_by_torch
from tests.helpers.trainings import MODEL, PX, run, same, setting, source, spec

STEP_S, EVALUATION_S = 1.0, 100.0


def with_budget(folder: Path, budget: str, **changes: Any) -> TrainingPlan:
    train = TrainConfig(epochs=3, lr=1e-2, optimizer="adamw", schedule="cosine", warmup=0.2, budget=budget)
    return setting(folder, train=train, **changes)


def images_of(training: Training) -> int:
    return sum(epoch.images for epoch in training.history)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second per training step, and 100 per evaluation, whatever the machine does."""
    now = [0.0]
    loss, evaluate = steps.training_loss, loop.logits_of

    def taking(seconds: float, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            now[0] += seconds
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(steps, "training_loss", taking(STEP_S, loss))
    monkeypatch.setattr(loop, "logits_of", taking(EVALUATION_S, evaluate))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])


def test_budget_of_epochs_is_that_number_of_epochs(tmp_path: Path) -> None:
    first = run(with_budget(tmp_path / "a", "epochs=3"))
    chosen = with_budget(tmp_path / "b", "epochs=3")
    assert same(first, run(replace(chosen, train=replace(chosen.train, budget=None))))


@pytest.mark.parametrize(("images", "per_epoch"), [(56, [40, 16]), (8, [8]), (80, [40, 40]), (3, [8])])
def test_budget_of_images_ends_at_the_nearest_step(images: int, per_epoch: list[int], tmp_path: Path) -> None:
    """Of 40 images in batches of 8; an epoch that it ends within is evaluated too."""
    training = run(with_budget(tmp_path, f"images={images}"))
    assert [epoch.images for epoch in training.history] == per_epoch
    assert training.steps == sum(per_epoch) // 8
    assert all(epoch.val_top1_accuracy >= 0 for epoch in training.history)


@given(st.integers(1, 10**6), st.integers(2, 300), st.integers(2, 64))
def test_images_are_within_half_a_batch_or_two_per_cent(images: int, count: int, batch: int) -> None:
    chosen = setting(
        Path(),
        train=TrainConfig(budget=f"images={images}"),
        train_source=replace(source(3, 1), indices=source(1, 1).indices.repeat(count)),
        loader=LoaderConfig(image_size=PX, batch_size=batch),
    )
    assert chosen.duration.steps is not None
    per_epoch = [min(batch, count - start) for start in range(0, count, batch) if count - start > 1]
    whole, rest = divmod(chosen.duration.steps, len(per_epoch))
    trained = whole * sum(per_epoch) + sum(per_epoch[:rest])
    assert abs(trained - images) <= max(0.02 * images, batch)


@pytest.mark.usefixtures("clock")
def test_budget_of_minutes_ends_at_a_step_and_evaluation_is_free(tmp_path: Path) -> None:
    """Of 12 seconds, in epochs of five steps."""
    rates: list[float] = []
    chosen = with_budget(tmp_path, "minutes=0.2")
    training = run(
        replace(chosen, report=lambda event: rates.append(event.lr) if isinstance(event, EpochResult) else 0)
    )
    assert training.steps == 12
    assert [epoch.train_time_s for epoch in training.history] == [5, 5, 2]
    # The rates at which the epochs began, of a cosine over 12 steps with a warm-up of a fifth.
    assert rates[0] < rates[1]
    assert rates[1] > rates[2] > 0


@pytest.mark.usefixtures("clock")
def test_resumed_run_has_the_minutes_that_are_left(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, EpochResult):
            raise StoppedError

    chosen = with_budget(tmp_path, "minutes=0.2")
    with pytest.raises(StoppedError):
        run(replace(chosen, report=stop))
    seen: list[Step] = []
    training = run(replace(chosen, report=lambda event: seen.append(event) if isinstance(event, Step) else None))
    assert len(seen) == 7, "five of twelve steps were made before"
    assert training.steps == 12
    assert sum(epoch.train_time_s for epoch in training.history) == 12


def test_finished_budget_is_not_trained_again(tmp_path: Path) -> None:
    """A run that was killed after its last epoch, which is a part of one, has nothing left to train."""
    chosen = with_budget(tmp_path, "images=56")
    first = run(chosen)
    again = run(replace(chosen, report=lambda event: pytest.fail("trained") if isinstance(event, Step) else None))
    assert same(first, again)
    assert again.steps == first.steps


def test_budget_of_compute_counts_three_passes(tmp_path: Path) -> None:
    gmacs = complexity.count(build_model(spec(), MODEL, num_classes=3), PX).gmacs
    training = fit(setting(tmp_path, train=TrainConfig(budget=f"tmacs={100 * 3 * gmacs / 1e3}")))
    assert images_of(training) == pytest.approx(100, abs=4)


def test_budget_of_compute_includes_attention(tmp_path: Path) -> None:
    network = resolve_spec("test_vit", LoaderConfig(image_size=160), random_weights)
    macs = sum(counted_by_torch("test_vit", 160).values())
    assert 1 <= gmacs_of(network, num_classes=1000) * 1e9 / macs < 1.03
    chosen = setting(
        tmp_path,
        train=TrainConfig(budget=f"tmacs={100 * 3 * macs / 1e12}"),
        spec=network,
        train_source=source(40, 1, px=160),
        val_source=source(15, 2, px=160),
        loader=LoaderConfig(image_size=160, batch_size=8),
        architecture=ArchitectureConfig(),
    )
    training = fit(chosen)
    assert images_of(training) == pytest.approx(100, abs=8)


def test_compute_grows_with_image_area() -> None:
    larger = replace(spec(), resize=replace(spec().resize, size=2 * PX))
    assert gmacs_of(larger, 2) == pytest.approx(4 * gmacs_of(spec(), 2), rel=0.05)


def test_counting_compute_does_not_change_the_training(tmp_path: Path) -> None:
    """The network that is counted takes no random numbers from the one that is trained."""
    gmacs = complexity.count(build_model(spec(), MODEL, num_classes=3), PX).gmacs
    budgets = ("images=80", f"tmacs={80 * 3 * gmacs / 1e3}")
    states = [fit(setting(tmp_path / budget, train=TrainConfig(budget=budget))).state for budget in budgets]
    assert all(torch.equal(first, second) for first, second in zip(*(state.values() for state in states), strict=True))


def test_classifiers_fit_is_charged(tmp_path: Path) -> None:
    """It is one pass of every image without a backward pass, that is, a third of one in training."""
    chosen = with_budget(tmp_path, "tmacs=1")
    plain, first = (
        replace(chosen, gmacs=5.0, train=replace(chosen.train, tune_layers=layers)).duration.steps
        for layers in ("all", "head-then-all")
    )
    assert plain is not None
    assert first is not None
    # 1e12 / (3 x 5e9) = 66.7 images in batches of 8, less 40 / 3 images.
    assert (plain, first) == (8, 7)


@pytest.mark.parametrize(
    "text", ["minutes=0", "minutes=-1", "minutes", "10", "", "images=1.5", "hours=1", "tmacs=nan", "minutes=inf"]
)
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="budget"):
        TrainConfig(budget=text)


def test_budgets_are_read_as_quantity_and_amount() -> None:
    for (quantity, amount), text in itertools.product([("minutes", 0.5), ("images", 50_000.0)], ["{}={}"]):
        assert parse_budget(text.format(quantity, amount)) == (quantity, amount)


def test_budget_is_parsed_a_few_times_in_a_training_and_not_in_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    def parse(text: str) -> tuple[str, float]:
        parsed.append(text)
        return parse_budget(text)

    monkeypatch.setattr("imgcls.training.plan.parse_budget", parse)
    training = run(setting(tmp_path, epochs=3))
    assert training.steps == 15
    assert len(parsed) == 1
