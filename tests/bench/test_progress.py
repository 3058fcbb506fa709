"""Progress of trainings: the time that is left."""

import logging

import pytest

from bench import progress
from imgcls.training.events import EpochResult, Step


def step(fraction: float, *, epochs: int = 4) -> Step:
    return Step(epoch=1, epochs=epochs, fraction=fraction, images=8, total_images=8, train_time_s=1.0)


def result(epoch: int) -> EpochResult:
    return EpochResult(
        epoch=epoch,
        train_loss=1.0,
        val_loss=1.0,
        val_top1_accuracy=0.5,
        lr=0.1,
        train_time_s=1.0,
        eval_time_s=0.0,
        images=8,
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def left(caplog: pytest.LogCaptureFixture) -> list[float]:
    return [record.msg.left_s for record in caplog.records if isinstance(record.msg, progress.Epoch)]


def test_time_that_is_left_with_one_step_an_epoch(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bench")
    report = progress.training("net")
    for epoch in range(1, 5):
        clock[0] += 10
        report(step(epoch / 4))
        report(result(epoch))
    assert left(caplog) == pytest.approx([30, 20, 10, 0])


def test_time_that_is_left_after_a_resumption(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """What was done before it took no time of this command."""
    caplog.set_level(logging.INFO, logger="bench")
    report = progress.training("net")
    for number in range(1, 5):
        clock[0] += 10
        report(step(0.5 + number / 10))
    report(result(3))
    assert left(caplog) == pytest.approx([10])
