"""The exact distribution of a sum of integers whose signs are equally likely: the test of paired differences."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

AT_ONCE: Final = 4_000_000
"""Elements of the largest temporary array when many pairs are tested together: 32 MB."""

LEAST_COSINE: Final = 1e-300
"""Lower bound of a cosine before its logarithm is taken, as log(0) is not finite."""

Floats = NDArray[np.float64]

Counts = NDArray[np.int64]


def sign_flip(changes: Counts) -> tuple[float, float]:
    """Return the exact p and mid-p values of a sum of integers ``[N]`` whose signs are equally likely (two-sided)."""
    # All of size 1 is the McNemar test. The binomial distribution is accurate for the smallest p values too, whereas a
    # Fourier transform has an absolute error of about 1e-16.
    if np.abs(changes).max(initial=0) <= 1:
        gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
        below = float(bdtr(min(gained, lost), gained + lost, 0.5))
        # bdtr is not defined at -1, where the sum is 0.
        at = below - float(bdtr(min(gained, lost) - 1, gained + lost, 0.5)) if min(gained, lost) else below
        return min(2 * below, 1.0), min(2 * below - at, 1.0)
    p_values, mid_p = sign_flips(changes[None])
    return float(p_values[0]), float(mid_p[0])


def sign_flips(changes: Counts) -> tuple[Floats, Floats]:
    """Return p and mid-p values ``[P]`` of each row's sum of integers ``[P, N]`` whose signs are equally likely."""
    sizes = np.abs(changes)
    sums, reach = sizes.sum(axis=1), (sizes.sum(axis=1) - np.abs(changes.sum(axis=1))) // 2
    p_values, mid_p = np.ones(len(changes)), np.ones(len(changes))
    together = max(AT_ONCE // (int(sums.max(initial=0)) + 1), 1)
    for start in range(0, len(changes), together):
        part = slice(start, start + together)
        null = _null(sizes[part])
        # The null distribution is symmetric, so the two-sided p value is twice that of the smaller tail.
        below = np.cumsum(null, axis=1)[np.arange(len(null)), reach[part]]
        p_values[part] = np.minimum(2 * below, 1.0)
        mid_p[part] = np.clip(2 * below - null[np.arange(len(null)), reach[part]], 0.0, p_values[part])
    return p_values, mid_p


def _null(sizes: Counts) -> Floats:
    """Return the distribution ``[P, L]`` of the sum of a random subset of each row's sizes, each included with p = 1/2.

    Computed from its Fourier transform, the product over sizes s of ((1 + exp(i s x)) / 2) ** (number of that size).
    """
    totals = sizes.sum(axis=1)
    # A power of 2, for which a Fourier transform is fast, above every total, so that no sum wraps around.
    length = 1 << int(totals.max(initial=0)).bit_length()
    # A table of roots of unity: all angles below are multiples of one step, so that no cosine is computed twice.
    roots = np.exp(-1j * np.pi / length * np.arange(2 * length))
    number, most = len(sizes), int(sizes.max(initial=0)) + 1
    histogram = np.bincount((np.arange(number)[:, None] * most + sizes).ravel(), minlength=number * most)
    # With few seeds only few sizes occur, so the product runs over sizes instead of images.
    present = np.unique(sizes[sizes > 0])
    counts = histogram.reshape(number, most)[:, present].astype(np.float64)
    shape = np.empty((len(sizes), length // 2 + 1))
    together = max(AT_ONCE // max(len(present), 1), 1)
    for start in range(0, shape.shape[1], together):
        steps = np.arange(start, min(start + together, shape.shape[1]))
        # Centred on half the total, the factors are cosines, which are real: their product is a sum of logarithms of
        # the absolute values, which is a matrix product, times the sign.
        cosines = roots.real[np.outer(present, steps) % (2 * length)]
        size = np.exp(counts @ np.log(np.maximum(np.abs(cosines), LEAST_COSINE)))
        shape[:, steps] = size * (1 - 2 * (counts @ (cosines < 0) % 2))
    # Undo the centring.
    moved = shape * roots[np.outer(totals, np.arange(shape.shape[1])) % (2 * length)]
    # Rounding makes some of the smallest probabilities negative.
    return np.maximum(np.fft.irfft(moved, length, axis=1), 0.0)
