"""The measured part of a record: latency, its rounds and disturbances, and checks of runtimes."""

from dataclasses import dataclass, field
from typing import Literal

from imgcls.evaluation.results import Parity


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuState:
    """The state of a GPU in several samples from NVML; None for what NVML did not report.

    The lowest clock, the highest temperature and power, all reasons for which the clock was reduced, and the largest
    share of the GPU's time that other processes used.
    """

    clock_mhz: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    throttled: tuple[str, ...] | None = None
    foreign_share: float | None = None
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """What disturbed one round of one row; None if the operating system does not report a value.

    ``others_share`` and ``steal_share`` are the shares of all cores' time used by other processes and by the host. The
    anchor is a fixed workload on one thread, timed before and after the round; ``anchor_ms`` is the faster of the two:
    if that is slow, the machine itself is slower.
    """

    # CPU time does not show a host that slows down for all its guests, because it slows down too; the anchor does.

    others_share: float
    steal_share: float | None
    cpu_mhz: float | None
    anchor_ms: float
    gpu: GpuState | None = None


Kind = Literal["host", "device", "file"]

Status = Literal["ok", "failed", "not measured"]

Validity = Literal["valid", "noisy", "invalid"]

Inputs = Literal["test", "synthetic"]
"""Inputs of a parity check: the images of the test split, or 64 synthetic ones (``imgcls.inference.synthetic``)."""

ProtocolName = Literal["full", "quick", "screening"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of a row, measured in a process of its own; ``kept`` of the row's samples belong to it, in order.

    ``cpu_share`` is the CPU time of the timing thread over the elapsed time, if one CPU thread did all the work.
    """

    number: int
    num_queries: int
    kept: int
    cpu_share: float | None
    disturbance: Disturbance


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One model in one runtime at one batch size; a row whose status is not ok has a reason and no samples.

    ``validity`` is None if the row was not judged, because a quick run has one round and a failed one none. ``kind`` is
    "host" (from the input tensor to logits on the host), "device" (the same on the device alone) or "file" (from an
    encoded image file to a label). ``samples_ms`` are at most 1,000; ``parts_ms`` are the samples of the steps of
    "file". ``p90_upper_ms`` is an upper bound of p90 (LoadGen's early stopping, confidence 0.99). ``anchor_ms`` is the
    reference that the anchor was compared with. Rows with the same ``session_id`` were measured in the same rounds;
    ``measured_at`` (UTC) is the start of the session.
    """

    # Samples and rounds are stored, not only a validity, so that changed rules can be tried on old measurements.
    runtime: str
    batch_size: int
    status: Status
    protocol_version: int
    protocol: ProtocolName = "full"
    validity: Validity | None = None
    session_id: str | None = None
    kind: Kind = "host"
    reason: str | None = None
    # Read back from the session: ONNX Runtime falls back from CUDA to the CPU with a log line only.
    provider: str | None = None
    precision: str | None = None
    num_threads: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    num_queries: int = 0
    samples_ms: tuple[float, ...] = ()
    parts_ms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    # Stored, because its rule needs all queries and ``samples_ms`` may be a part of them.
    p90_upper_ms: float | None = None
    anchor_ms: float | None = None
    rounds: tuple[Round, ...] = ()
    measured_at: str | None = None
    git_commit: str | None = None

    @property
    def has_figures(self) -> bool:
        """Whether latencies of this row may be shown; an invalid row keeps its samples for inspection only."""
        return self.status == "ok" and self.validity != "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """The check of a model in a runtime, by a fresh process before it is timed.

    ``import_ms``, ``load_ms`` and ``first_ms`` are the cold start: importing the runtime, opening the model, and the
    first inference at batch 1; ``peak_memory_bytes`` is the peak resident set size after it. ``nodes`` counts the nodes
    that each provider of ONNX Runtime ran; ``without_torch`` is whether torch was never loaded; ``made_from`` holds the
    digests of what a converted file was made from. ``parity`` is on the whole test split, or, if ``inputs`` is
    "synthetic", on inputs without true classes, which show nothing about accuracy.
    """

    runtime: str
    status: Literal["ok", "failed", "not measured"]
    protocol_version: int
    # Of the opened session: OpenVINO, for example, uses bf16 by default if the CPU supports it.
    precision: str
    reason: str | None = None
    import_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_memory_bytes: int | None = None
    size_bytes: int | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    without_torch: bool | None = None
    made_from: str | None = None
    parity: Parity | None = None
    num_images: int | None = None
    inputs: Inputs = "test"
