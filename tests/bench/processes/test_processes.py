"""What a caller receives from its worker processes."""

import json
import logging
import resource
import signal

import pytest

from bench.processes.starting import STEADY_MEMORY, launch
from bench.progress import Count
from imgcls.messages import Message, Setting

WORKER = "tests.helpers.worker"


def test_results_that_a_worker_cannot_write_are_one_line(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.ERROR, logger="bench"):
        assert launch([WORKER, "unwritable", "-"]) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "  stopped: [Errno 30] Read-only file system: 'results'"
    ]
    assert "Traceback" not in capfd.readouterr().err


def test_worker_log_is_logged_by_its_caller(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    results: list[bytes] = []
    with caplog.at_level(logging.DEBUG, logger="bench"):
        assert launch([WORKER, "report", "-"], results.append) == 3
    assert [json.loads(result) for result in results] == [{"result": 1}]
    warning, name, count, epoch, message = caplog.records
    assert (warning.name, warning.levelname, warning.getMessage()) == (
        "bench.somewhere",
        "WARNING",
        "beware of [brackets]",
    )
    assert name.getMessage() == "a name whose bytes are not UTF-8: f\N{REPLACEMENT CHARACTER}r.png"
    assert count.msg == Count(title="caching", done=1, total=2, left_s=1.0)
    assert "epoch 1/3" in epoch.getMessage()
    assert message.msg == Message(("use ", Setting("weights", "none")))
    printed = capfd.readouterr()
    assert "a library prints" in printed.err
    assert not printed.out


def test_truncated_line_is_dropped() -> None:
    results: list[bytes] = []
    assert launch([WORKER, "cut_short", "-"], results.append) == -signal.SIGKILL
    assert results == [b'"whole"']


@pytest.mark.parametrize(("own", "spins"), [({}, "1000"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)])
def test_threads_of_a_training_process_are_limited(
    own: dict[str, str], spins: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    results: list[bytes] = []
    assert launch([WORKER, "environment", "-"], results.append, threads=1) == 0
    found = json.loads(results[0])
    assert {found[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"1"}
    assert found.get("GOMP_SPINCOUNT") == spins
    assert found["pools"] == [1] * len(found["pools"])
    assert len(found["pools"]) > 1


@pytest.mark.parametrize("own", [{}, {"MALLOC_MMAP_MAX_": "65536", "MALLOC_MMAP_THRESHOLD_": "1000000"}])
def test_training_process_keeps_freed_memory_unless_the_user_says_otherwise(
    own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in STEADY_MEMORY:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    results: list[bytes] = []
    assert launch([WORKER, "faults", "-"], results.append, threads=1) == 0
    pages_of_one = 2**26 // resource.getpagesize()
    # Of 50 tensors, each one anew, or a few until the heap has a place for the next.
    assert (int(results[0]) / pages_of_one > 25) == bool(own)
