"""The part of a record that is measured: latency, rounds, disturbances, and checks of runtimes."""

from dataclasses import dataclass, field
from typing import Literal

from imgcls.evaluation.results import Parity


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuState:
    """The device as NVML tells it; ``foreign_processes`` are those of others that compute there."""

    clock_mhz: int
    temperature_c: int
    power_w: float
    throttled: tuple[str, ...]
    foreign_processes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """Beside one round of one row: shares of all cores' time, the CPU's clock, and the anchor's time.

    The anchor is a fixed piece of work on one thread, done before and after; where even the faster of the two is slow,
    the machine itself is slower. None where the system does not tell.
    """

    others_share: float
    steal_share: float | None
    cpu_mhz: float | None
    anchor_ms: float
    gpu: GpuState | None = None


Kind = Literal["host", "device", "file"]

Status = Literal["ok", "failed", "not measured"]

Validity = Literal["valid", "noisy", "invalid"]

ProtocolName = Literal["full", "quick"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of a row, in a process of its own; ``kept`` of the row's samples are this round's, in order.

    ``cpu_share`` is the timing thread's CPU time over the clock's, where one thread on the CPU did all the work.
    """

    number: int
    num_queries: int
    kept: int
    cpu_share: float | None
    disturbance: Disturbance


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One runtime at one batch size; a row that is not ok has no samples and a reason.

    ``validity`` is None if the row was not judged: a quick one has one round, and a failed one none. ``kind``: "host"
    from input tensor to logits on the host, "device" the same on the device alone, "file" from an encoded image file to
    a label. ``samples_ms`` are at most 1,000; ``parts_ms`` are the samples of a file's parts. ``p90_upper_ms`` bounds
    p90 from above (LoadGen's early stopping, confidence 0.99). ``anchor_ms`` is the reference that the anchor was
    compared with. Rows of one ``session_id`` shared their rounds; ``measured_at`` (UTC) is when the session began.
    """

    runtime: str
    batch_size: int
    status: Status
    protocol_version: int
    protocol: ProtocolName = "full"
    validity: Validity | None = None
    session_id: str | None = None
    kind: Kind = "host"
    reason: str | None = None
    provider: str | None = None
    precision: str | None = None
    num_threads: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    num_queries: int = 0
    samples_ms: tuple[float, ...] = ()
    parts_ms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    p90_upper_ms: float | None = None
    anchor_ms: float | None = None
    rounds: tuple[Round, ...] = ()
    measured_at: str | None = None
    git_commit: str | None = None

    @property
    def has_figures(self) -> bool:
        """Return whether figures of this row may be shown: an invalid one has samples and no figure."""
        return self.status == "ok" and self.validity != "invalid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """What a fresh process found of a model in a runtime before it was timed.

    Cold start apart: importing, opening, and the first inference at batch 1, in ms, and the largest resident size after
    it. Parity on the whole test split; ``nodes`` that each provider of onnxruntime ran; whether torch was never loaded;
    ``made_from``: digests of what a converted file came from.
    """

    runtime: str
    status: Literal["ok", "failed", "not measured"]
    protocol_version: int
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
