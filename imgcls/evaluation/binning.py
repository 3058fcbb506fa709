"""Confidence bins, in a separate module: code that bins stored predictions need not import scikit-learn (slow)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# As in Guo et al. (2017).
ECE_BINS: Final = 15


def ece_bins(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin ``[N]`` of each confidence among 15 of equal width; an edge belongs to the bin below it."""
    # Half-open intervals (a, b] as in the paper; clip() puts a confidence of 0 into the first one.
    return np.asarray(np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1))
