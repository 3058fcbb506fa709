"""The command with a protocol that has every part of the full one, and takes seconds: ``python -m`` this module."""

import sys
from dataclasses import replace
from typing import Final

from bench.cli import run
from bench.cli.main import main
from bench.latency.protocol import FULL

SHORT_FULL: Final = replace(FULL, duration_s=1.0, batch_duration_s=0.1)

if __name__ == "__main__":
    run.FULL = SHORT_FULL  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
