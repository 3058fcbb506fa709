"""What a caller receives from its worker processes."""

import json
import logging
import signal

import pytest

from bench.progress import Count
from bench.runs.processes import launch

WORKER = "tests.helpers.worker"


def test_worker_log_is_logged_by_its_caller(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    answers: list[bytes] = []
    with caplog.at_level(logging.DEBUG, logger="bench"):
        assert launch([WORKER, "report", "-"], answers.append) == 3
    assert [json.loads(answer) for answer in answers] == [{"answer": 1}]
    warning, count, epoch = caplog.records
    assert (warning.name, warning.levelname, warning.getMessage()) == (
        "bench.somewhere",
        "WARNING",
        "beware of [brackets]",
    )
    assert count.msg == Count(title="caching", done=1, total=2, left_s=1.0)
    assert "epoch 1/3" in epoch.getMessage()
    printed = capfd.readouterr()
    assert "a library prints" in printed.err
    assert not printed.out


def test_truncated_line_is_dropped() -> None:
    answers: list[bytes] = []
    assert launch([WORKER, "cut_short", "-"], answers.append) == -signal.SIGKILL
    assert answers == [b'"whole"']
