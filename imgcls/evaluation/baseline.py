"""The majority-class baseline, which always predicts the class that occurs most often in train."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Majority:
    """Scores of the majority-class baseline on test, as fractions."""

    class_name: str
    top1_accuracy: float
    macro_f1: float
    balanced_accuracy: float


def always(class_names: Sequence[str], *, train: Sequence[int], test: Sequence[int]) -> Majority:
    """Return the majority-class baseline for the numbers of images of each class in train and test."""
    # The class is chosen on train, as a model is: choosing the most frequent class of test would use its labels.
    # ``max`` takes the first class of a tie, which makes the choice reproducible.
    best = max(range(len(train)), key=lambda label: train[label])
    # Classes without test images are excluded from the averages, as in the scores of models.
    number, present = sum(test), sum(count > 0 for count in test)
    return Majority(
        class_name=class_names[best],
        top1_accuracy=test[best] / number,
        macro_f1=2 * test[best] / (number + test[best]) / present,
        balanced_accuracy=(test[best] > 0) / present,
    )
