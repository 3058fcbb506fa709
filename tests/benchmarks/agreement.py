"""How well two ``bench measure`` of one set of artifacts agree: ``python -m tests.benchmarks.agreement A B``."""

import sys
from pathlib import Path
from typing import Final

from bench.records.measurements import Measurement
from bench.records.store import read_records
from bench.stats.intervals import percentile

LIMIT: Final = 0.03
Key = tuple[str, str, int, str, int | None]


def rows(results: Path) -> dict[Key, tuple[str, Measurement]]:
    """Return all rows of five rounds, with the name of their model."""
    return {
        (record.run_id, row.runtime, row.batch_size, row.kind, row.num_threads): (
            f"{record.config.model} ({record.dataset.name}) on {row.runtime}, {row.kind}, batch {row.batch_size}",
            row,
        )
        for record in read_records(results)
        for row in record.measurements
        if len(row.rounds) > 1
    }


def main(first: Path, second: Path) -> None:
    """Print how many rows both call valid, and how many of those agree on p50 within 3 %."""
    ours, others = rows(first), rows(second)
    both = [key for key in ours if key in others]
    valid = [key for key in both if ours[key][1].validity == others[key][1].validity == "valid"]
    agree = 0
    for key in valid:
        ratio = percentile(others[key][1].samples_ms, 50) / percentile(ours[key][1].samples_ms, 50)
        agree += abs(ratio - 1) <= LIMIT
        print(f"{ratio:.3f}  {ours[key][0]}")  # noqa: T201
    words = f"{len(both)} rows measured twice, {len(valid)} valid in both; p50 within 3 %: {agree} of {len(valid)}"
    print(words)  # noqa: T201


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
