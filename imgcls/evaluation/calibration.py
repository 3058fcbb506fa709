"""Temperature scaling, fitted on val: it changes the confidence of predictions, but not the predicted classes."""

import math
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from imgcls.evaluation.metrics import Floats, Labels, log_loss
from imgcls.evaluation.results import Calibration, Temperature

PRIOR_SD: Final = 0.5
"""Standard deviation of log T in its normal prior around 0, so that T is in 0.38 to 2.7 with 95 % probability.

Without a prior, a val split that the network separates perfectly sends T to 0, and its confidence to 1. Chosen by
simulation: ``python -m tests.benchmarks.temperature``.
"""
LIMIT: Final = math.log(100)
"""Largest absolute logarithm of a temperature."""


def fit_temperature(logits: Floats, labels: Labels) -> Temperature:
    """Return the temperature that is most probable given logits ``[N, C]`` and labels ``[N]`` of val.

    To the log loss of the divided logits (Guo et al. 2017) is added that of log T under its prior (``PRIOR_SD``). T is
    1 if all images are of one class, if none is misclassified, so that the likelihood has no maximum, or if the images
    contain less Fisher information about log T than the prior.
    """
    wide, images, errors = logits.astype(np.float64), len(labels), int((logits.argmax(axis=1) != labels).sum())
    if len(np.unique(labels)) == 1:
        return Temperature(value=1.0, uncalibrated_reason=f"all {images} val images are of one class")
    if errors == 0:
        return Temperature(value=1.0, uncalibrated_reason=f"none of the {images} val images is misclassified")
    minimum = minimize_scalar(
        lambda exponent: images * log_loss(wide / math.exp(exponent), labels) + exponent**2 / (2 * PRIOR_SD**2),
        bounds=(-LIMIT, LIMIT),
        method="bounded",
    )
    # Of log T: the variance of the scaled logits under the predicted distribution, summed over images.
    scaled = wide / math.exp(minimum.x)
    shares = softmax(scaled, axis=1)
    means = (shares * scaled).sum(axis=1, keepdims=True)
    if (shares * (scaled - means) ** 2).sum() < 1 / PRIOR_SD**2:
        reason = f"{images} val images, {errors} of them misclassified, are too few to fit a temperature"
        return Temperature(value=1.0, uncalibrated_reason=reason)
    return Temperature(value=math.exp(minimum.x))


def calibrate(*, val: tuple[Floats, Labels], test: tuple[Floats, Labels]) -> Calibration:
    """Fit the temperature on val, and score test with it."""
    fitted = fit_temperature(*val)
    return Calibration(
        temperature=fitted.value,
        test_log_loss=log_loss(test[0].astype(np.float64) / fitted.value, test[1]),
        uncalibrated_reason=fitted.uncalibrated_reason,
    )
