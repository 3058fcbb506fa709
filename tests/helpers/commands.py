"""Running a command in a separate process, or in this one."""

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from bench.cli.main import main
from bench.processes.forking import ForkServer
from bench.processes.starting import Receive, ignore

ROOT = Path(__file__).parent.parent.parent


def _as_from_a_terminal() -> None:
    """Restore the handler of Ctrl-C, which a shell script disables for its background processes."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(
    *arguments: str,
    environment: dict[str, str] | None = None,
    before: tuple[str, ...] = (),
    module: str = "bench",
) -> "subprocess.Popen[str]":
    """Start ``python -m bench`` as the leader of a process group."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_as_from_a_terminal,  # noqa: PLW1509 - one call, without other threads of ours
    )


def bench(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run ``python -m bench`` to its end; return its exit status and output."""
    process = start(*arguments, environment=environment)
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def launch_here(command: list[str], receive: Receive = ignore, **_environment: object) -> int:
    """Carry out the task of a worker in this process, in place of ``launch``."""
    module, kind, path = command
    status: int = importlib.import_module(module).KINDS[kind](
        Path(path), lambda content: receive(json.dumps(msgspec.to_builtins(content), allow_nan=False).encode())
    )
    return status


def run_here(server: ForkServer, kind: str, path: Path, receive: Receive = ignore, **_threads: object) -> int:
    """Carry out a task in this process, in place of ``ForkServer.run``."""
    return launch_here([server.module, kind, str(path)], receive)


@contextlib.contextmanager
def without_processes() -> Iterator[None]:
    """Carry out trainings, checks and measurements in this process, which has loaded torch."""
    import torch  # here, because starting a command does not need it

    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for caller in ("bench.latency.session", "bench.runs.local"):
            patch.setattr(f"{caller}.launch", launch_here)
        patch.setattr(ForkServer, "run", run_here)
        try:
            yield
        finally:
            torch.set_num_threads(threads)  # a training has set its own


def bench_here(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command as ``bench`` does, but in this process; for tests of what it does, not of its processes."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, without_processes():
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            status = main(arguments)
    return status, output.getvalue()


def command_lines_of_children(pid: int) -> set[str]:
    """Return all command lines that the children of a process have until it ends."""
    lines, parent = set[str](), psutil.Process(pid)
    own = parent.cmdline()
    with contextlib.suppress(psutil.NoSuchProcess):
        while parent.status() != psutil.STATUS_ZOMBIE:
            for child in parent.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    # A child begins as a copy of its parent.
                    lines.update([" ".join(line)] if (line := child.cmdline()) != own else [])
            time.sleep(0.02)
    return lines


def kill(process: "subprocess.Popen[str]") -> None:
    """Send SIGKILL to the command and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
