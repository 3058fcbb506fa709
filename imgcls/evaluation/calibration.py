"""Temperature scaling, fitted on val: it changes the confidence of predictions, but not the predicted classes."""

import math
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from imgcls.evaluation.metrics import Floats, Labels, ece, log_loss
from imgcls.evaluation.results import Calibration

TEMPERATURES: Final = (0.01, 100.0)
"""Range of the search; if every prediction on val is correct, the optimum is at the lower end."""


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Return the temperature that minimises the log loss of logits ``[N, C]`` divided by it (Guo et al. 2017)."""
    # The log loss is convex in the inverse temperature, so that it has a single minimum and a bounded scalar search
    # finds it; over the logarithm, because the range spans four orders of magnitude.
    wide = logits.astype(np.float64)
    found = minimize_scalar(
        lambda exponent: log_loss(wide / math.exp(exponent), labels),
        bounds=tuple(math.log(end) for end in TEMPERATURES),
        method="bounded",
    )
    return math.exp(found.x)


def calibrate(*, val: tuple[Floats, Labels], test: tuple[Floats, Labels]) -> Calibration:
    """Fit the temperature on val, and score test with it."""
    temperature = fit_temperature(*val)
    logits, labels = test[0].astype(np.float64) / temperature, test[1]
    return Calibration(temperature=temperature, test_log_loss=log_loss(logits, labels), test_ece=ece(logits, labels))
