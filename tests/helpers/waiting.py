"""Waiting for a condition, and for processes that keep all cores busy."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psutil
import pytest

from imgcls.parallel import usable_cores

T = TypeVar("T")


def until(condition: Callable[[], T], *, what: str, within_s: float = 120.0, every_s: float = 0.05) -> T:
    """Return the first true result of a condition; the test fails if there is none in time."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what}")
        time.sleep(every_s)
    return result


@contextmanager
def busy_processes() -> Iterator[None]:
    """Run as many processes without end as there are cores; all of them have begun."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(usable_cores())]
    try:
        for burner in burners:
            until(lambda pid=burner.pid: psutil.Process(pid).cpu_times().user > 0.2, what="a busy process")  # type: ignore[misc]
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
