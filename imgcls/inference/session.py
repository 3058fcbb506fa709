"""Common interface to an open model in any runtime."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

Logits = NDArray[np.float32]


def nothing() -> None:
    """Do nothing: the synchronisation of a runtime that returns only when its work is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An open model: ``run`` maps host float32 ``[B, 3, S, S]`` to host logits ``[B, C]``.

    ``provider`` and ``num_threads`` are read back from the runtime, never copied from the request. So is ``precision``
    in PyTorch; ONNX Runtime and OpenVINO have that of their entry in ``RUNTIMES``. ``settings`` lists what else affects
    the speed. ``device_timer`` (CUDA only) copies images to the device, and returns a function that runs the model on
    them once and returns the time in ms, without transfers.
    """

    run: Callable[[Images], Logits]
    provider: str
    precision: str
    num_threads: int
    synchronize: Callable[[], None] = nothing
    settings: dict[str, str] = field(default_factory=dict)
    device_timer: Callable[[Images], Callable[[], float]] | None = None
