"""The answer that looks at no picture: what every model has to beat."""

from dataclasses import dataclass

from bench.records import DatasetInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Majority:
    """What always answering the class with the most training images scores on test, as fractions."""

    class_name: str
    top1_accuracy: float
    macro_f1: float
    balanced_accuracy: float


def majority(dataset: DatasetInfo) -> Majority:
    """Score the answer that looks at no picture."""
    train, test = dataset.counts["train"], dataset.counts["test"]
    best = max(range(len(train)), key=lambda label: train[label])
    number, present = sum(test), sum(count > 0 for count in test)
    return Majority(
        class_name=dataset.class_names[best],
        top1_accuracy=test[best] / number,
        macro_f1=2 * test[best] / (number + test[best]) / present,
        balanced_accuracy=(test[best] > 0) / present,
    )
