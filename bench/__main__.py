"""``python -m bench``."""

import sys
import warnings

from bench.cli.main import main

if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # timm's import; nothing a user can do
    sys.exit(main(sys.argv[1:]))
