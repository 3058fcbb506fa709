"""What a fitted temperature gains, by the number of val images: ``python -m tests.benchmarks.temperature``.

Images of ``classes`` normal distributions whose centres are ``separation`` apart from the origin: their log densities
are calibrated logits, which are multiplied by the temperature to be found. Printed is the mean log loss on 20,000 test
images above that at the true temperature: without fitting, as fitted, and by the bare maximum of the likelihood.
"""

import math
from typing import Final

import numpy as np
from scipy.optimize import minimize_scalar

from imgcls.evaluation.calibration import fit_temperature
from imgcls.evaluation.metrics import Floats, Labels, log_loss

TEST_IMAGES: Final = 20_000
PROBLEMS: Final = ((2, 1.0), (2, 3.2), (6, 2.2), (6, 4.0))
"""Number of classes and separation: accuracies of 76, 99, 81 and 99 %."""
IMAGES: Final = (10, 30, 100, 1000)
TEMPERATURES: Final = (0.7, 1.0, 1.6, 3.0)
DRAWS: Final = 200
RANGE: Final = (math.log(0.01), math.log(100))


def calibrated(rng: np.random.Generator, images: int, classes: int, separation: float) -> tuple[Floats, Labels]:
    """Return calibrated logits ``[N, C]`` and labels ``[N]``."""
    labels = rng.integers(0, classes, images)
    values = separation * np.eye(classes)[labels] + rng.standard_normal((images, classes))
    return separation * values, labels


def excess_losses(
    *, classes: int, separation: float, temperature: float, images: int, draws: int
) -> tuple[float, float]:
    """Return the mean excess log loss on test, in nats: without fitting, and at the fitted temperatures."""
    rng = np.random.default_rng(0)
    test, labels = calibrated(rng, TEST_IMAGES, classes, separation)
    losses = []
    for _ in range(draws):
        logits, own = calibrated(rng, images, classes, separation)
        losses.append(log_loss(test * temperature / fit_temperature(logits * temperature, own).value, labels))
    best = log_loss(test, labels)
    return log_loss(test * temperature, labels) - best, float(np.mean(losses)) - best


def _unregularised(classes: int, separation: float, temperature: float, images: int, draws: int) -> float:
    rng = np.random.default_rng(0)
    test, labels = calibrated(rng, TEST_IMAGES, classes, separation)
    losses = []
    for _ in range(draws):
        logits, own = calibrated(rng, images, classes, separation)
        found = minimize_scalar(
            lambda t, z=logits, y=own: log_loss(z * temperature / math.exp(t), y), bounds=RANGE, method="bounded"
        )
        losses.append(log_loss(test * temperature / math.exp(found.x), labels))
    return float(np.mean(losses)) - log_loss(test, labels)


def main() -> None:
    """Print a line for each problem, temperature and number of val images."""
    print("| classes | accuracy | T | val images | not fitted | fitted | likelihood alone |")  # noqa: T201
    print("|---|---|---|---|---|---|---|")  # noqa: T201
    for classes, separation in PROBLEMS:
        logits, labels = calibrated(np.random.default_rng(1), TEST_IMAGES, classes, separation)
        accuracy = 100 * (logits.argmax(axis=1) == labels).mean()
        for temperature in TEMPERATURES:
            for images in IMAGES:
                draws = DRAWS if images < max(IMAGES) else DRAWS // 5
                problem = {"classes": classes, "separation": separation, "temperature": temperature, "images": images}
                unfitted, fitted = excess_losses(**problem, draws=draws)
                bare = _unregularised(**problem, draws=draws)
                cells = f"{accuracy:.0f} % | {temperature} | {images} | {unfitted:.3f} | {fitted:.3f} | {bare:.3f}"
                print(f"| {classes} | {cells} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
