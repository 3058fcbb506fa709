"""``python -m bench``, and the console command ``imgcls-bench``."""

import sys
import warnings

from bench.cli.main import main


def run() -> None:
    """Carry out the command on this process's command line, and exit with its status."""
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
