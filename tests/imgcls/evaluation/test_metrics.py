"""Metrics of synthetic logits, compared with values calculated by hand."""

import math

import numpy as np
import pytest

from imgcls.evaluation import metrics
from imgcls.evaluation.metrics import confusion_matrix, score


def logits_for(predicted: list[int], classes: int = 3, confidence: float = 20.0) -> np.ndarray:
    logits = np.zeros((len(predicted), classes))
    logits[np.arange(len(predicted)), predicted] = confidence
    return logits


LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = [0, 0, 0, 1, 1, 0, 2, 2]


def test_accuracy_f1_and_balanced_accuracy() -> None:
    values = score(logits_for(PREDICTED), LABELS)
    assert values["top1_accuracy"] == pytest.approx(6 / 8)
    assert values["balanced_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert values["macro_f1"] == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)


def test_log_loss() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    assert metrics.log_loss(logits, np.array([0, 1])) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)


def test_top5_from_six_classes_on() -> None:
    assert "top5_accuracy" not in score(logits_for([0, 1], classes=5), np.array([0, 1]))
    six = np.array([[6.0, 5, 4, 3, 2, 1], [6.0, 5, 4, 3, 2, 1]])
    assert score(six, np.array([4, 5]))["top5_accuracy"] == pytest.approx(0.5)


def test_ece() -> None:
    logits = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]]))
    assert metrics.ece(logits, np.array([0, 1, 0, 0])) == pytest.approx((2 * 0.3 + 2 * 0.4) / 4)


def test_absent_class_is_not_averaged() -> None:
    values = score(logits_for([0, 1, 2]), np.array([0, 1, 0]))  # class 2 is predicted once
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)


def test_confusion_rows_are_true_classes() -> None:
    assert confusion_matrix(logits_for(PREDICTED), LABELS) == ((3, 1, 0), (1, 1, 0), (0, 0, 2))


def test_right_answers_score_better() -> None:
    right = score(logits_for(list(LABELS)), LABELS)
    wrong = score(logits_for([(label + 1) % 3 for label in LABELS]), LABELS)
    for name, value in right.items():
        assert (value < wrong[name]) == (name in {"log_loss", "ece"})


def test_log_loss_is_not_clipped() -> None:
    logits = np.array([[0.0, 100.0], [0.0, 0.0]])
    assert metrics.log_loss(logits, np.array([0, 1])) == pytest.approx((100 + np.log(2)) / 2)
