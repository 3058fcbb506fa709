"""Temperature scaling: fitted on val, applied to test."""

import numpy as np
import pytest

from imgcls.evaluation.calibration import calibrate, fit_temperature
from imgcls.evaluation.metrics import log_loss
from tests.benchmarks.temperature import excess_losses


def drawn(scale: float, number: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and labels drawn from the softmax of ``logits / scale``, so that the temperature is ``scale``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (number, 4))
    odds = np.exp(logits)
    labels = np.array([rng.choice(4, p=row / row.sum()) for row in odds])
    return (logits * scale).astype(np.float32), labels


@pytest.mark.parametrize("scale", [0.05, 0.5, 1.0, 3.0, 20.0])
def test_temperature_of_scaled_logits_is_found(scale: float) -> None:
    fitted = fit_temperature(*drawn(scale))
    assert fitted.value == pytest.approx(scale, rel=0.07)
    assert fitted.uncalibrated_reason is None


def test_test_is_scored_at_vals_temperature() -> None:
    val, test = drawn(3.0, seed=1), drawn(1.0, seed=2)
    found = calibrate(val=val, test=test)
    assert found.temperature == fit_temperature(*val).value
    assert found.test_log_loss == pytest.approx(log_loss(test[0].astype(np.float64) / found.temperature, test[1]))
    assert found.test_log_loss > log_loss(*test)


@pytest.mark.parametrize("margin", [1.0, 5.0, 20.0])
def test_val_that_is_separated_perfectly_does_not_calibrate(margin: float) -> None:
    """The best temperature would be 0, with probabilities of 1 for the wrong answers on other images too."""
    labels = np.arange(20) % 2
    found = calibrate(val=(margin * np.eye(2)[labels], labels), test=drawn(1.0))
    assert (found.temperature, found.uncalibrated_reason) == (1.0, "none of the 20 val images is misclassified")
    assert found.test_log_loss == pytest.approx(log_loss(*drawn(1.0)))


def test_val_of_one_class_does_not_calibrate() -> None:
    logits, _ = drawn(1.0, number=50)
    fitted = fit_temperature(logits, np.zeros(50, dtype=np.int64))
    assert (fitted.value, fitted.uncalibrated_reason) == (1.0, "all 50 val images are of one class")


def test_few_errors_of_sure_predictions_do_not_calibrate() -> None:
    labels = np.arange(20) % 2
    logits = 8 * np.eye(2)[labels]
    logits[0] = (0.0, 0.1)
    fitted = fit_temperature(logits, labels)
    expected = "20 val images, 1 of them misclassified, are too few to fit a temperature"
    assert (fitted.value, fitted.uncalibrated_reason) == (1.0, expected)


def test_large_val_calibrates_although_few_of_its_images_are_misclassified() -> None:
    logits, labels = drawn(1.0, number=4000)
    clear = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2] > 4
    assert 0 < (logits.argmax(axis=1) != labels)[clear].mean() < 0.02
    assert fit_temperature(logits[clear], labels[clear]).value == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("images", [10, 30, 100, 1000])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
def test_fitted_temperature_costs_little_where_none_is_needed_and_gains_where_one_is(
    images: int, temperature: float
) -> None:
    """Mean log loss on test above that of the true temperature, over simulated val splits."""
    unfitted, fitted = excess_losses(classes=6, separation=2.2, temperature=temperature, images=images, draws=60)
    assert fitted < (0.025 if images < 100 else 0.01) if temperature == 1 else fitted < unfitted
