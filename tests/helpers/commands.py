"""Run the real command in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def _as_from_a_terminal() -> None:
    """Heed Ctrl-C even where the tests run in the background of a script, which ignores it for all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(
    *arguments: str, environment: dict[str, str] | None = None, before: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    """Start ``python -m bench`` as the leader of a process group."""
    return subprocess.Popen(
        [*before, sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_as_from_a_terminal,  # noqa: PLW1509 - one call, and no thread of ours is at work
    )


def bench(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run ``python -m bench`` to its end; its exit status and what it printed."""
    process = start(*arguments, environment=environment)
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def kill(process: "subprocess.Popen[str]") -> None:
    """SIGKILL the command and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
