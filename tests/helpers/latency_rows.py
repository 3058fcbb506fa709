"""Synthetic rows of the full protocol."""

from dataclasses import replace

import numpy as np

from bench.latency.protocol import PROTOCOL_VERSION
from bench.records.measurements import Check, Measurement, Round
from imgcls.evaluation.results import Parity
from tests.helpers import examples

INT8 = "onnxruntime-cpu-int8"


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


def check(*, lost: int = 0, inputs: str = "test", made_from: str = "a s", compared: bool = True) -> Check:
    """A check of int8, on 1,000 test images or on synthetic inputs."""
    test = inputs == "test"
    parity = Parity(
        max_rel_logit_error=0.1,
        top1_agreement=0.9,
        flips=(),
        only_trained_right=lost if test else None,
        only_runtime_right=0 if test else None,
    )
    return Check(
        runtime=INT8,
        status="ok",
        protocol_version=PROTOCOL_VERSION,
        precision="int8",
        made_from=made_from,
        parity=parity if compared else None,
        num_images=(1000 if test else 64) if compared else None,
        inputs=inputs,  # type: ignore[arg-type]
    )
