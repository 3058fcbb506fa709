"""The training loop: reproducible, stopped by a non-finite loss, and resumed without a change of the weights."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imgcls.config import ArchitectureConfig, TrainConfig
from imgcls.data.augment import normalise
from imgcls.errors import NonFiniteLossError
from imgcls.evaluation.forward import logits_of
from imgcls.models.building import build_model
from imgcls.training import checkpoints, loop, steps
from imgcls.training.checkpoints import STATE_FILE, selected_epoch
from imgcls.training.events import EpochResult, Rung, Step
from imgcls.training.losses import training_loss
from imgcls.training.precision import scaler_of
from tests.helpers.trainings import CPU, MODEL, run, same, setting, source, spec

PER_EPOCH = 5
"""Steps of an epoch of ``setting``."""


def test_training_learns(tmp_path: Path) -> None:
    patient = TrainConfig(epochs=8, lr=1e-2, lr_patience=8)
    history = run(setting(tmp_path / "a", train=patient)).history
    assert history[-1].train_loss < history[0].train_loss / 2
    assert max(epoch.val_top1_accuracy for epoch in history) > 0.9


def test_training_is_determined_by_its_seed(tmp_path: Path) -> None:
    first, second = run(setting(tmp_path / "a")), run(setting(tmp_path / "b"))
    assert same(first, second)
    assert not same(first, run(setting(tmp_path / "c", seed=1)))


def test_learning_rate_follows_validation_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It drops while the training loss improves, but the validation loss rises."""
    # Larger images than elsewhere, whose loss falls in each of the first epochs.
    chosen = setting(tmp_path / "a", epochs=4, train_source=source(40, 1, px=64))
    right = np.eye(3, dtype=np.float32)[chosen.val_source.labels]
    confidences = iter((0, -1, -2, -3))
    monkeypatch.setattr(loop, "logits_of", lambda *_args, **_kwargs: next(confidences) * right)
    history = run(chosen).history
    assert history[0].train_loss > history[1].train_loss > history[2].train_loss
    assert [epoch.lr for epoch in history] == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4])


def epoch_result(number: int, accuracy: float = 0.5) -> EpochResult:
    return EpochResult(
        epoch=number,
        train_loss=0,
        val_loss=0,
        val_top1_accuracy=accuracy,
        lr=1,
        train_time_s=1,
        eval_time_s=1,
        images=1,
    )


def test_best_epoch_is_the_first_of_the_highest() -> None:
    history = [epoch_result(number, accuracy) for number, accuracy in enumerate((0.5, 0.8, 0.8, 0.6), start=1)]
    assert selected_epoch(history, "best") == 2
    assert selected_epoch(history, "last") == 4


def test_kept_state_is_the_best_epochs(tmp_path: Path) -> None:
    chosen = setting(tmp_path / "a", epochs=5, lr=0.03)
    result = run(chosen)
    model = build_model(spec(), MODEL, num_classes=3)
    model.load_state_dict(result.state)
    logits = logits_of(model, chosen.val_source, normalisation=chosen.spec.normalisation, device=CPU)
    accuracy = float((logits.argmax(1) == chosen.val_source.labels).mean())
    assert accuracy == max(epoch.val_top1_accuracy for epoch in result.history)


def test_evaluation_is_ordered_without_dropout() -> None:
    images = source(70, 2)  # two batches
    model = build_model(spec(), MODEL, num_classes=3).train()
    logits = logits_of(model, images, normalisation=spec().normalisation, device=CPU)
    with torch.inference_mode():
        expected = model.eval()(normalise(torch.from_numpy(images.pixels), spec().normalisation))
    assert logits == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("step", [2, PER_EPOCH])
def test_nonfinite_loss_ends_the_training_before_its_weights_are_saved(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the last step of an epoch: losses are read one step late."""
    calls: list[int] = []
    real = steps.training_loss

    def poisoned(*args: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) == PER_EPOCH + step else 1)

    monkeypatch.setattr(steps, "training_loss", poisoned)
    reported: list[object] = []
    with pytest.raises(NonFiniteLossError, match=f"nan at epoch 2, step {step}"):
        run(setting(tmp_path / "a", report=reported.append))
    assert len(calls) <= PER_EPOCH + step + 1
    state = torch.load(tmp_path / "a" / STATE_FILE, weights_only=True)
    assert len(state["history"]) == len([event for event in reported if isinstance(event, EpochResult)]) == 1
    assert all(weights.isfinite().all() for weights in state["model"].values())
    monkeypatch.undo()
    assert same(run(setting(tmp_path / "a")), run(setting(tmp_path / "b")))


class Killed(BaseException):
    """Simulates a kill: our code does not catch it."""


def stop_in_epoch(epoch: int) -> Callable[[Step | EpochResult], None]:
    def report(event: Step | EpochResult) -> None:
        if isinstance(event, Step) and event.epoch == epoch and event.images > 8:
            raise Killed

    return report


def test_run_stopped_in_any_epoch_is_resumed(tmp_path: Path) -> None:
    whole = run(setting(tmp_path / "whole", epochs=4))
    for epoch in (1, 2, 3, 4):
        with pytest.raises(Killed):
            run(setting(tmp_path / "stopped", epochs=4, report=stop_in_epoch(epoch)))
    resumed = run(setting(tmp_path / "stopped", epochs=4))
    assert same(whole, resumed)
    assert resumed.resumed_from == (1, 2, 3)


@pytest.mark.parametrize("where", ["before the rename", "half written"])
def test_kill_during_a_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    whole = run(setting(tmp_path / "whole"))
    real, calls, limit = Path.replace, [0], [0]

    def deadly(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] == limit[0]:
            if where == "half written":
                os.truncate(self, self.stat().st_size // 2)
            raise Killed
        return real(self, target)

    monkeypatch.setattr(checkpoints.Path, "replace", deadly)
    for limit[0] in (1, 2, 3):
        calls[0] = 0
        with pytest.raises(Killed):
            run(setting(tmp_path / "stopped"))
    monkeypatch.undo()
    assert same(whole, run(setting(tmp_path / "stopped")))


def learner() -> checkpoints.Learner:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    return checkpoints.Learner(
        model=model,
        network=model,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=scaler_of(torch.device("cpu"), "fp32"),
    )


def test_resumed_run_remembers_the_plateau(tmp_path: Path) -> None:
    before, after = learner(), learner()
    before.scheduler.step(1.0)
    before.scheduler.step(2.0)
    checkpoints.save(before, tmp_path, checkpoints.Progress(history=(epoch_result(1),)), "best")
    checkpoints.restore(after, tmp_path, CPU)
    after.scheduler.step(2.0)
    assert after.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_every_epoch_has_its_own_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    real = torch.manual_seed
    monkeypatch.setattr(loop.torch, "manual_seed", lambda seed: (seeds.append(seed), real(seed))[1])
    orders: list[int] = []
    batches = steps.train_batches
    monkeypatch.setattr(
        steps,
        "train_batches",
        lambda source, **options: (orders.append(options["generator"].initial_seed()), batches(source, **options))[1],
    )
    for seed in (0, 1):
        run(setting(tmp_path / str(seed), epochs=3, seed=seed))
    assert len(set(seeds)) == 8  # for each seed, one for the model and one per epoch
    assert len(set(orders)) == 6


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(setting(tmp_path / "a"))
    again = run(setting(tmp_path / "a", report=lambda event: pytest.fail(f"trained: {event}")))
    assert same(first, again)


COSINE = TrainConfig(epochs=4, lr=1e-2, schedule="cosine", select="last", label_smoothing=0.1, weight_decay=1e-4)


@pytest.mark.parametrize("epochs", [1, 3])
def test_cosine_falls_to_zero_over_all_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    seen: list[float] = []
    step = torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    run(setting(tmp_path, train=TrainConfig(epochs=epochs, lr=1e-2, schedule="cosine")))
    done = np.arange(5 * epochs) / (5 * epochs)  # 5 steps per epoch
    assert seen == pytest.approx(5e-3 * (1 + np.cos(np.pi * done)), abs=1e-9)


def test_resumed_cosine_run_is_identical(tmp_path: Path) -> None:
    whole = run(setting(tmp_path / "whole", train=COSINE))

    def stop_in_epoch_3(event: object) -> None:
        if isinstance(event, Step) and event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(setting(tmp_path / "parts", train=COSINE, report=stop_in_epoch_3))
    resumed = run(setting(tmp_path / "parts", train=COSINE))
    assert resumed.resumed_from == (2,)
    assert same(whole, resumed)


def test_last_epoch_can_be_selected(tmp_path: Path) -> None:
    result = run(setting(tmp_path, train=COSINE))
    assert result.best_epoch == 4
    assert len(list(tmp_path.glob("best-*.safetensors"))) == 1


@pytest.mark.parametrize("epochs", [1, 4])
def test_rungs_are_fractions_of_all_steps(tmp_path: Path, epochs: int) -> None:
    config = TrainConfig(epochs=epochs, lr=1e-2, schedule="cosine", select="last")
    events: list[object] = []
    plain = run(setting(tmp_path / "plain", train=config))
    scored = run(setting(tmp_path / "scored", train=config, rungs=(0.2, 0.6), report=events.append))
    assert same(plain, scored)
    steps, at = 0, []
    for event in events:
        steps += isinstance(event, Step)
        if isinstance(event, Rung):
            at.append((event.fraction, steps))
    assert at == [(0.2, epochs), (0.6, 3 * epochs)]  # 5 steps per epoch


def test_training_time_excludes_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock_s = [0.0]

    def lasting(function: Callable[..., Any], duration_s: float) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            clock_s[0] += duration_s
            return function(*args, **kwargs)

        return slow

    monkeypatch.setattr(loop.time, "perf_counter", lambda: clock_s[0])
    monkeypatch.setattr(steps, "training_loss", lasting(steps.training_loss, 1.0))
    monkeypatch.setattr(loop, "logits_of", lasting(loop.logits_of, 100.0))
    events: list[object] = []
    (epoch,) = run(setting(tmp_path, epochs=1, rungs=(0.4,), report=events.append)).history
    assert (epoch.train_time_s, epoch.eval_time_s) == (5.0, 100.0)
    assert [event.train_time_s for event in events if isinstance(event, Step)] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_auxiliary_loss_is_weighted_and_smoothed(tmp_path: Path) -> None:
    logits, aux_logits = torch.randn(2, 8, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 3
    chosen = setting(tmp_path, architecture=ArchitectureConfig(aux_weight=0.3), train=TrainConfig(label_smoothing=0.2))
    main, aux = (
        torch.nn.functional.cross_entropy(each, labels, label_smoothing=0.2).item() for each in (logits, aux_logits)
    )
    assert training_loss(logits, labels, chosen).item() == pytest.approx(main)
    assert training_loss((logits, aux_logits), labels, chosen).item() == pytest.approx(main + 0.3 * aux)


def test_smoothing_and_decay_are_applied(tmp_path: Path) -> None:
    plain = run(setting(tmp_path / "plain", train=TrainConfig(epochs=1, lr=1e-2)))
    smooth = run(setting(tmp_path / "smooth", train=TrainConfig(epochs=1, lr=1e-2, label_smoothing=0.2)))
    decayed = run(setting(tmp_path / "decayed", train=TrainConfig(epochs=1, lr=1e-2, weight_decay=0.1)))
    assert plain.history[0].train_loss != smooth.history[0].train_loss
    assert not all(torch.equal(tensor, decayed.state[key]) for key, tensor in plain.state.items())
