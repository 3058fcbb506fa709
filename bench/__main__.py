"""``python -m bench``, and the console command ``imgcls-bench``."""

import sys
import warnings

from bench.cli.main import main


def run() -> None:
    """Carry out the command line of this process, and end with its exit status."""
    warnings.filterwarnings("ignore", message=".*torch.jit")  # timm's import; nothing a user can do
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
