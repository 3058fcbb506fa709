"""What a user sees of log records and progress events."""

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from bench.cli.display import new_console, showing_logs
from bench.progress import Count, Epoch, Timing, counting, timing, training
from imgcls.data.decode import quiet_libraries
from imgcls.messages import Message, Setting
from imgcls.training.events import Step
from tests.helpers.examples import EPOCH

LOGGER = logging.getLogger("bench.somewhere")


@contextmanager
def shown(*, terminal: bool) -> Iterator[io.StringIO]:
    out = io.StringIO()
    with showing_logs(Console(file=out, force_terminal=terminal, width=80)):
        yield out


def test_a_pipe_gets_plain_lines() -> None:
    with shown(terminal=False) as out:
        LOGGER.debug(Count(title="caching", done=1, total=2, left_s=1.0))
        LOGGER.info(Epoch(result=EPOCH, epochs=3, left_s=61.0))
        LOGGER.info(Timing(step="round 1 of 5", done_s=30.0, expected_s=60.0, left_s=120.0))
        LOGGER.warning("no [hub]: %s", "x" * 100)
        logging.getLogger("imgcls.models").error("failed: full disk")
    LOGGER.warning("too late")
    printed = out.getvalue().splitlines()
    assert printed[0] == "  epoch 1/3: loss 1.000, val 1.000; val top-1 50.0 %; 8 images/s; 1:01 left"
    assert printed[1:] == [
        "  measuring 50 %: round 1 of 5, 2 min left",
        f"WARNING: no [hub]: {'x' * 100}",
        "failed: full disk",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_message_is_written_with_flags(terminal: bool, caplog: pytest.LogCaptureFixture) -> None:  # noqa: FBT001
    with shown(terminal=terminal) as out:
        LOGGER.warning(Message(("no hub; 5 % use ", Setting("weights", "none"))))
    assert "WARNING: no hub; 5 % use --weights none" in re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert caplog.messages == ['no hub; 5 % use weights="none"'], "other handlers get the library's form"


def test_beside_data_lines_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with new_console(data_only=True) as console, showing_logs(console), quiet_libraries():
        console.print("a line")
        LOGGER.warning("a record")
        os.write(2, b"of a library")
    assert capfd.readouterr() == ("", "a line\nWARNING: a record\n")


def test_a_terminal_draws_events_and_removes_them() -> None:
    with shown(terminal=True) as out:
        LOGGER.debug(Count(title="caching", done=1, total=2, left_s=61.0))
        assert "caching: 1 of 2" in out.getvalue()
        assert "1:01" in out.getvalue()
        drawn = len(out.getvalue())
        LOGGER.debug(Count(title="caching", done=2, total=2, left_s=0.0))
        LOGGER.info("a line")
        assert "\x1b[1A\x1b[2Ka line" in out.getvalue()[drawn:], "the line takes the place of the bar"


def test_steps_of_a_training_become_events(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="bench"):
        report = training("resnet50")
        report(Step(epoch=2, epochs=3, fraction=0.5, images=20, total_images=80, train_time_s=1.0))
        report(EPOCH)
    step, epoch = (record.msg for record in caplog.records)
    assert step == Count(title="resnet50, epoch 2 of 3", done=20, total=80, left_s=3.0)
    assert isinstance(epoch, Epoch)
    assert (epoch.result, epoch.epochs) == (EPOCH, 3)


def test_a_count_estimates_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="bench"):
        counting("auditing")(5, 10)
        timing(100.0)("checked", 25.0)
    count, step = (record.msg for record in caplog.records)
    assert (count.done, count.total, count.ended) == (5, 10, False)
    assert count.left_s >= 0
    assert (step.done_s, step.left_s) == (25.0, 75.0), "a step that took no time was read back"
