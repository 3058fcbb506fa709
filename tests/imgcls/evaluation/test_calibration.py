"""Temperature scaling: fitted on val, applied to test."""

import numpy as np
import pytest

from imgcls.evaluation.calibration import calibrate, fit_temperature
from imgcls.evaluation.metrics import log_loss


def drawn(scale: float, number: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from the softmax of ``logits / scale``, so that the temperature is ``scale``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (number, 4))
    odds = np.exp(logits)
    labels = np.array([rng.choice(4, p=row / row.sum()) for row in odds])
    return (logits * scale).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_of_scaled_logits_is_found(scale: float) -> None:
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.07)


def test_test_is_scored_at_vals_temperature() -> None:
    val, test = drawn(3.0, seed=1), drawn(1.0, seed=2)
    found = calibrate(val=val, test=test)
    assert found.temperature == fit_temperature(*val)
    assert found.test_log_loss == pytest.approx(log_loss(test[0].astype(np.float64) / found.temperature, test[1]))
    assert found.test_log_loss > log_loss(*test)


def test_perfect_val_gives_a_low_temperature() -> None:
    labels = np.arange(30) % 3
    assert fit_temperature(np.eye(3)[labels], labels) < 0.1
