"""One temperature for all logits, fitted on val: it changes how sure a model sounds, and no answer."""

import math
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from imgcls.evaluation.metrics import Floats, Labels, ece, log_loss
from imgcls.evaluation.results import Calibration

TEMPERATURES: Final = (0.01, 100.0)
"""Where a temperature is looked for; a split that is all right has its best one at the lower end."""


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Find the temperature with the least log loss of logits ``[N, C]`` divided by it (Guo et al. 2017)."""
    wide = logits.astype(np.float64)
    found = minimize_scalar(
        lambda exponent: log_loss(wide / math.exp(exponent), labels),
        bounds=tuple(math.log(end) for end in TEMPERATURES),
        method="bounded",
    )
    return math.exp(found.x)


def calibrate(*, val: tuple[Floats, Labels], test: tuple[Floats, Labels]) -> Calibration:
    """Fit on val, and score test at that temperature."""
    temperature = fit_temperature(*val)
    logits, labels = test[0].astype(np.float64) / temperature, test[1]
    return Calibration(temperature=temperature, test_log_loss=log_loss(logits, labels), test_ece=ece(logits, labels))
