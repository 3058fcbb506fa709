"""Reasons of failed runs: tracebacks without paths of this machine, and the exit status of processes."""

import re
import sys
import tempfile
import traceback
from pathlib import Path

from bench.config import REPOSITORY


def traceback_text(error: BaseException, places: dict[Path, str]) -> str:
    """Return the traceback of an error, in which ``places`` and other folders of this machine have neutral names."""
    return neutral("".join(traceback.format_exception(error)), places)


def last_line(error: str) -> str:
    """Return the last line of a traceback that names an exception, or else its last line."""
    # Not always the last line, because the message of an exception can have several.
    lines = [line for line in error.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
    return (named or lines or ["unknown"])[-1]


def killed(status: int) -> str:
    """Return the reason for which a process with this exit status left no record."""
    if status < 0:
        return f"RunError: the process was killed by signal {-status} (possible causes: out of memory, a crash, a user)"
    return f"RunError: the process ended with status {status} and left no record"


def neutral(text: str, folders: dict[Path, str]) -> str:
    """Return a text in which ``folders`` and others of this machine have neutral names."""
    own = {
        REPOSITORY: "CODE",
        Path(sys.prefix): "PYTHON",
        Path(sys.base_prefix): "PYTHON",
        Path(tempfile.gettempdir()): "TMP",
        Path.home(): "HOME",
    }
    folders = {folder.expanduser().resolve(): name for folder, name in folders.items()} | own
    # The longest first: one folder can contain another, as the home folder often contains the results folder.
    for folder, name in sorted(folders.items(), key=lambda item: -len(str(item[0]))):
        # The root, as a home folder in some containers, would match every absolute path.
        if folder != Path(folder.anchor):
            # As a whole path: "/data" is no part of "/database".
            text = re.sub(rf"{re.escape(str(folder))}(?![\w-])", name, text)
    return text
