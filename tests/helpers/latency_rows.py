"""Synthetic rows of the full protocol."""

from dataclasses import replace

import numpy as np

from bench.records.measurements import Measurement, Round
from tests.helpers import examples


def row(runtime: str, *, speed: float = 10.0, validity: str = "valid", **changes: object) -> Measurement:
    """Return a row of five rounds of 40 queries; each round is slower than the last by a tenth of the first."""
    rng = np.random.default_rng(0)
    samples = [speed * (1 + number / 10) * (1 + 0.001 * rng.normal(size=40)) for number in range(5)]
    whole = replace(
        examples.measurement(runtime),
        protocol="full",
        validity=validity,
        session_id="one",
        samples_ms=tuple(np.concatenate(samples).tolist()),
        num_queries=200,
        measured_at="2026-01-01T00:00:00+00:00",
        rounds=tuple(
            Round(number=number, num_queries=40, kept=40, cpu_share=1.0, disturbance=examples.disturbance())
            for number in range(5)
        ),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]
