"""The command, measuring for moments and with one seed for each finalist of a race: ``python -m`` this module."""

import sys
from dataclasses import replace
from typing import Any, Final

import bench.harness
from bench.cli.main import main
from bench.latency.protocol import QUICK, SCREENING
from bench.selection import finals
from bench.selection.latency import screening

SHORT: Final[dict[str, Any]] = {"duration_s": 0.1, "min_queries": 12, "batch_sizes": ()}

if __name__ == "__main__":
    screening.SCREENING = replace(SCREENING, **SHORT)  # type: ignore[misc]
    bench.harness.QUICK = replace(QUICK, **SHORT)  # type: ignore[misc]
    finals.MAX_SEEDS = 1  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
