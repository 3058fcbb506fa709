"""Results folders of models with three classes."""

from pathlib import Path

import numpy as np

from tests.helpers import examples

NAMES = ("cat", "dog", "eel")
LABELS = np.arange(240) % 3


def some_right(share: float, seed: int = 0, labels: np.ndarray = LABELS) -> np.ndarray:
    return np.random.default_rng(seed).random(len(labels)) < share


def keep(results: Path, model: str, right: np.ndarray, **changes: object) -> object:
    info = examples.data_of(LABELS, NAMES)
    return examples.keep(results, model, examples.predictions_of(right, LABELS, classes=3), info, **changes)
