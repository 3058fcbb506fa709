"""``python -m bench``, and the console command ``imgcls-bench``."""

import os
import sys
import warnings

from bench.cli.main import BROKEN_PIPE_STATUS, main


def run() -> None:
    """Carry out the command on this process's command line, and exit with its status."""
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
