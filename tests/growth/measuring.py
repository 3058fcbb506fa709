"""Seconds and peak memory of one step."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import psutil

LOOK_S: Final = 0.2


def measure(stage: str, home: Path, count: int) -> dict[str, float]:
    """Carry out a step in a process of its own; return its seconds and the peak memory of all its processes."""
    command = (sys.executable, "-m", "tests.growth.stages", stage, str(home), str(count))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ended, peak = threading.Event(), [0]
    watcher = threading.Thread(target=_watch, args=(process.pid, ended, peak))
    watcher.start()
    try:
        seconds = float(process.communicate()[0])
    finally:
        ended.set()
        watcher.join()
    return {"seconds": round(seconds, 3), "peak_gib": round(peak[0] / 2**30, 3)}


def _watch(pid: int, ended: threading.Event, peak: list[int]) -> None:
    while not ended.wait(LOOK_S):
        peak[0] = max(peak[0], _memory_of_tree(pid))


def _memory_of_tree(pid: int) -> int:
    """Return the memory of a process and its children in bytes, without mapped files, which others share."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            memory = process.memory_info()
            total += memory.rss - memory.shared
    except psutil.NoSuchProcess:
        pass
    return total
