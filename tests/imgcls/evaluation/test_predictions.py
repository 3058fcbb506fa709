"""Files of predictions: all logits, and the summary that is stored beside a record."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from imgcls.evaluation.predictions import Predictions, load_predictions, save_predictions, save_summary


def test_damaged_predictions_are_refused(tmp_path: Path) -> None:
    predictions = Predictions(image_ids=("a",), labels=np.array([0]), logits=np.zeros((1, 2), dtype=np.float32))
    save_predictions(predictions, tmp_path / "p.npz")
    assert load_predictions(tmp_path / "p.npz").image_ids == ("a",)
    data = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "p.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged"):
        load_predictions(tmp_path / "p.npz")


def test_summary_is_raw_and_at_the_temperature(tmp_path: Path) -> None:
    logits = np.array([[1.0, 3.0, 2.0], [4.0, 0.0, 1.0]], dtype=np.float32)
    predictions = Predictions(image_ids=("a", "b"), labels=np.array([2, 0]), logits=logits, groups=np.array([5, 3]))
    save_summary(predictions, tmp_path / "s.npz", temperature=2.0)
    with np.load(tmp_path / "s.npz") as stored:
        assert stored["predicted"].tolist() == [1, 0]
        assert (stored["labels"].tolist(), stored["group"].tolist()) == ([2, 0], [5, 3])
        raw, calibrated = (log_softmax(logits / temperature, axis=1) for temperature in (1.0, 2.0))
        assert stored["log_p_true"] == pytest.approx(raw[[0, 1], [2, 0]])
        assert stored["log_p_predicted"] == pytest.approx(raw[[0, 1], [1, 0]])
        assert stored["log_p_true_calibrated"] == pytest.approx(calibrated[[0, 1], [2, 0]])
