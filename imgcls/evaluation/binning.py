"""Bins of confidences, apart from the metrics: whoever bins stored answers needs no scikit-learn, which takes long."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

ECE_BINS: Final = 15


def ece_bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return each confidence's bin ``[N]`` of 15 equal-width ones; an edge belongs to the bin below it."""
    return np.asarray(np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1))
