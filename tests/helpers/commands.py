"""Running the real command in a separate process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def _as_from_a_terminal() -> None:
    """Restore the handler of Ctrl-C, which a shell script disables for its background processes."""
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
        preexec_fn=_as_from_a_terminal,  # noqa: PLW1509 - one call, without other threads of ours
    )


def bench(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run ``python -m bench`` to its end; return its exit status and output."""
    process = start(*arguments, environment=environment)
    output, _ = process.communicate(timeout=500)
    return process.returncode, output


def kill(process: "subprocess.Popen[str]") -> None:
    """Send SIGKILL to the command and all its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
