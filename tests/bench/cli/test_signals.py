"""An interrupted or killed audit ends its worker processes, without warnings."""

import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.helpers.commands import start
from tests.helpers.waiting import until


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Enough bytes that the audit starts processes, and decodes for seconds."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        noise.save(tmp_path / name / "0.png")
        for number in range(1, 20):
            (tmp_path / name / f"{number}.png").hardlink_to(tmp_path / name / "0.png")
    return tmp_path


def decoding(audit: int) -> list[psutil.Process]:
    """Return the processes that an audit started, once one of them has worked; short-lived ones may end meanwhile."""
    started = psutil.Process(audit).children(recursive=True)
    with suppress(psutil.NoSuchProcess):
        return started if any(worker.cpu_times().user > 0.3 for worker in started) else []
    return []


@pytest.mark.skipif(sys.platform == "win32", reason="workers watch the id of their parent")
def test_workers_end_with_a_killed_audit(large: Path, tmp_path: Path) -> None:
    process = start("audit", str(large), "--results", str(tmp_path / "results"))
    workers = until(lambda: decoding(process.pid), what="work of a worker of the audit")
    process.kill()
    process.communicate()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_a_terminated_audit_leaves_no_warnings(large: Path, tmp_path: Path) -> None:
    process = start("audit", str(large), "--results", str(tmp_path / "results"))
    workers = until(lambda: decoding(process.pid), what="work of a worker of the audit")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    assert output.strip().splitlines()[-1] == "interrupted; repeat the command to continue"
    assert "leaked" not in output
    assert psutil.wait_procs(workers, timeout=120)[1] == []
