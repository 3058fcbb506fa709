"""The answer that looks at no picture: what every model has to beat."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.schema import DatasetInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Majority:
    """What always answering the class with the most training images scores on test, as fractions."""

    class_name: str
    top1_accuracy: float
    macro_f1: float
    balanced_accuracy: float


def majority(dataset: DatasetInfo) -> Majority:
    """Score the answer that looks at no picture, on one split."""
    return always(dataset.class_names, train=dataset.counts["train"], test=dataset.counts["test"])


def always(class_names: Sequence[str], *, train: Sequence[int], test: Sequence[int]) -> Majority:
    """Score always answering the class with the most training images."""
    best = max(range(len(train)), key=lambda label: train[label])
    number, present = sum(test), sum(count > 0 for count in test)
    return Majority(
        class_name=class_names[best],
        top1_accuracy=test[best] / number,
        macro_f1=2 * test[best] / (number + test[best]) / present,
        balanced_accuracy=(test[best] > 0) / present,
    )
