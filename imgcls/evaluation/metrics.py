"""Metrics of logits and labels, computed with numpy and scikit-learn; without torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn import metrics as sklearn_metrics

from imgcls.evaluation.binning import ECE_BINS, ece_bins

Floats = NDArray[np.floating]

Labels = NDArray[np.integer]

TOP_K: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A function of logits ``[N, C]`` and labels ``[N]``, for data sets of at least ``min_classes`` classes."""

    compute: Callable[[Floats, Labels], float]
    min_classes: int = 2


def top1_accuracy(logits: Floats, labels: Labels) -> float:
    """Return the fraction of images whose largest logit is that of the label."""
    return float(sklearn_metrics.accuracy_score(labels, logits.argmax(axis=1)))


def top5_accuracy(logits: Floats, labels: Labels) -> float:
    """Return the fraction of images whose label is among the five largest logits."""
    # All classes are listed, because scikit-learn infers them from the labels, which may lack some.
    classes = np.arange(logits.shape[1])
    return float(sklearn_metrics.top_k_accuracy_score(labels, logits, k=TOP_K, labels=classes))


def macro_f1(logits: Floats, labels: Labels) -> float:
    """Return the mean F1 over the classes that have images in the split."""
    # By default scikit-learn also averages over classes that are only predicted, with an F1 of 0.
    predicted = logits.argmax(axis=1)
    return float(
        sklearn_metrics.f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    )


def balanced_accuracy(logits: Floats, labels: Labels) -> float:
    """Return the mean recall over the classes that have images in the split."""
    # balanced_accuracy_score has the same value, but warns if a class is predicted that no label has.
    predicted = logits.argmax(axis=1)
    present = np.unique(labels)
    return float(sklearn_metrics.recall_score(labels, predicted, labels=present, average="macro", zero_division=0))


def log_loss(logits: Floats, labels: Labels) -> float:
    """Return the mean cross-entropy in nats."""
    # From the logits: scikit-learn takes probabilities, and clips those that round to 0 where the loss is large.
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def ece(logits: Floats, labels: Labels) -> float:
    """Return the expected calibration error over 15 equal-width bins of the top confidence (Guo et al. 2017)."""
    # scikit-learn clips probabilities at the epsilon of their type: in float32, log loss could not exceed 16 nats.
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = ece_bins(confidence)
    # A bin's gap weighted by its number of images is the sum of its differences: no division by empty bins.
    gaps = np.bincount(bins, weights=correct - confidence, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))


METRICS: Final[dict[str, Metric]] = {
    "top1_accuracy": Metric(compute=top1_accuracy),
    "top5_accuracy": Metric(compute=top5_accuracy, min_classes=TOP_K + 1),
    "macro_f1": Metric(compute=macro_f1),
    "balanced_accuracy": Metric(compute=balanced_accuracy),
    "log_loss": Metric(compute=log_loss),
    "ece": Metric(compute=ece),
}
"""Metrics by name; all are fractions except ``log_loss`` (nats)."""


def score(logits: Floats, labels: Labels) -> dict[str, float]:
    """Compute every metric that applies to this number of classes."""
    return {
        name: metric.compute(logits, labels)
        for name, metric in METRICS.items()
        if logits.shape[1] >= metric.min_classes
    }


def confusion_matrix(logits: Floats, labels: Labels) -> tuple[tuple[int, ...], ...]:
    """Return the number of images by true class (rows) and predicted class (columns)."""
    classes = np.arange(logits.shape[1])
    counts = sklearn_metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=classes)
    return tuple(tuple(int(count) for count in row) for row in counts)
