"""``python -m bench``, and the console command ``imgcls-bench``."""

import os
import sys
import warnings
from pathlib import Path

from bench.cli.main import BROKEN_PIPE_STATUS, main


def _fill_streams() -> None:
    """Open the null device for each standard stream that is closed, in which case Python has None.

    Also because the next file that is opened would otherwise have its number, and get what a library prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - open until the process ends
            os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - for workers
            setattr(sys, name, stream)


def run() -> None:
    """Carry out the command on this process's command line, and exit with its status."""
    if sys.getfilesystemencoding() == "ascii":
        # A C locale, and Python's UTF-8 mode disabled. In this encoding, names of files that are not ASCII reach
        # libraries as text that they cannot open, and tables have characters that cannot be written.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONUTF8": "1"})  # noqa: S606 - this program again
    _fill_streams()
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    status = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        status = status or BROKEN_PIPE_STATUS
    if status == BROKEN_PIPE_STATUS:
        # The interpreter would flush what is left at its end, and report the same error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


if __name__ == "__main__":
    run()
