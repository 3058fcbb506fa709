"""The environment of a measurement: machine, package versions, commit."""

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from bench.config import REPOSITORY
from imgcls.devices import visible_gpu

# What a result may depend on. onnxruntime-gpu and onnxruntime are alternatives: the first is for machines where CUDA
# is possible.
PACKAGES: Final = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxscript",
    "nvidia-cudnn-cu12",
    "nvidia-cudnn-cu13",
    "tensorrt",
    "triton",
    "huggingface-hub",
    "numpy",
    "pillow",
    "scikit-learn",
    "fvcore",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """The kind of machine and the software of a run, without host name and folders, as records are published."""

    machine: str
    os: str
    cpu_model: str
    cpu_count: int
    ram_bytes: int
    gpu_name: str | None
    gpu_driver: str | None
    cuda_version: str | None
    python_version: str
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None


def read_environment() -> Environment:
    """Return the environment of this process."""
    cpu_model, cpu_count = _cpu_model(), os.cpu_count() or 1
    gpu = visible_gpu()
    gpu_name = None if gpu is None else gpu.name
    commit, dirty = read_commit()
    cuda_version = None
    if gpu_name:
        import torch  # noqa: PLC0415 - only where there is a GPU

        cuda_version = torch.version.cuda
    return Environment(
        machine=slug(cpu_model, cpu_count, gpu_name),
        os=f"{platform.system()} {platform.machine()}",
        cpu_model=cpu_model,
        cpu_count=cpu_count,
        ram_bytes=psutil.virtual_memory().total,
        gpu_name=gpu_name,
        gpu_driver=None if gpu is None else gpu.driver,
        cuda_version=cuda_version,
        python_version=platform.python_version(),
        packages=_versions(),
        git_commit=commit,
        git_dirty=dirty,
    )


def slug(cpu_model: str, cpu_count: int, gpu_name: str | None) -> str:
    """Return a name for a kind of machine, of letters, digits and hyphens."""
    # The name is a folder's name (``records/<machine>``), so that only characters occur that every file system allows.
    words = f"{cpu_model} {cpu_count} cores {gpu_name or ''}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def _cpu_model() -> str:
    # On Linux ``platform.processor()`` is empty or only the architecture.
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or "unknown CPU"


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_commit() -> tuple[str | None, bool | None]:
    """Return the commit of this code, and whether files outside ``results/`` differ from it."""
    git = ["git", "-C", str(REPOSITORY)]
    commit = _output([*git, "rev-parse", "HEAD"])
    # git also finds a repository in a parent folder, which is not this code's when the package is installed there.
    if not commit or not (REPOSITORY / ".git").exists():
        return None, None
    # Runs write into results/, and must not mark the code of the next run as changed.
    return commit, bool(_output([*git, "status", "--porcelain", "--", ".", ":!results"]))


def _output(command: list[str]) -> str:
    """Return the standard output of a command, or "" if it is missing, fails or hangs: no run depends on it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def peak_memory_bytes() -> int:
    """Return the peak resident set size of this process."""
    # On Linux not ``ru_maxrss``, which starts at the size of the parent process.
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        if match := re.search(r"^VmHWM:\s*(\d+) kB", status, flags=re.MULTILINE):
            return int(match.group(1)) * 1024
    import resource  # noqa: PLC0415 - does not exist on Windows

    # In bytes on macOS, in kB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def watch_others(*, with_siblings: bool = False) -> Callable[[], tuple[float, float | None]]:
    """Start to watch the CPU; the returned function returns the shares of others and of the host since then.

    Both are shares of the time of all cores: that of other processes, and that stolen by the host (None if the system
    does not report it). ``with_siblings`` counts the other children of this process's parent, which must not end
    before, as own.
    """
    family = psutil.Process().parent() if with_siblings else None
    busy, steal = _system_s()
    own, began = _own_s(family), time.perf_counter()

    def shares() -> tuple[float, float | None]:
        # All cores of the machine, not those that this process may use: the counters are of the whole system.
        available_s = max(time.perf_counter() - began, 1e-9) * (os.cpu_count() or 1)
        busy_now, steal_now = _system_s()
        # The counters advance in ticks of the kernel, so that the difference can be slightly negative.
        others_s = max(0.0, busy_now - busy - (_own_s(family) - own))
        stolen = None if steal is None or steal_now is None else round((steal_now - steal) / available_s, 4)
        return round(others_s / available_s, 4), stolen

    return shares


def _system_s() -> tuple[float, float | None]:
    """Return the seconds that all cores were busy, and the stolen ones (None if the system does not report them)."""
    times = psutil.cpu_times()
    # Without "iowait", which is idle time, and "guest", which Linux counts in "user" already.
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return busy, getattr(times, "steal", None)


def _own_s(family: psutil.Process | None) -> float:
    if family is None:
        times = os.times()
        return times.user + times.system
    return sum(sum(child.cpu_times()[:2]) for child in family.children())
