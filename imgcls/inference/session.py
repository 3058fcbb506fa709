"""An open model behind one small face, whatever runs it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]

Logits = NDArray[np.float32]


def nothing() -> None:
    """Synchronise a runtime that returns only when its work is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An open model: ``run`` maps host float32 ``[B, 3, S, S]`` to host logits ``[B, C]``.

    ``provider`` and ``num_threads`` are read back from what really runs, never copied from what was asked;
    ``precision`` too, but for onnxruntime, where it is the file's. ``settings`` says in words what else decides its
    speed. ``device_timer`` (CUDA only) puts images on the device and gives a function that runs them once and returns
    the ms that this took there.
    """

    run: Callable[[Images], Logits]
    provider: str
    precision: str
    num_threads: int
    synchronize: Callable[[], None] = nothing
    settings: dict[str, str] = field(default_factory=dict)
    device_timer: Callable[[Images], Callable[[], float]] | None = None
