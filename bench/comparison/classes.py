"""Statistics of classes: recalls, confusions, minority classes, and the effects of techniques against imbalance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.comparison.tables import Row, Table
from bench.config import RunConfig
from bench.records.ids import hash_of, identity
from bench.stats.groups import Groups, effective_size, meaningful
from bench.stats.intervals import Interval, Score, wilson_interval
from bench.stats.pairs import Paired, Right, compare_pair, holm
from bench.stats.power import power_of
from imgcls.config import RuntimeConfig

SMALL_CLASS: Final = 30
"""Test images of a class below which the bootstrap's intervals are too short."""


def recalls(row: Row, *, confidence: float = 0.95) -> list[Score | None]:
    """Return the recall of each class, averaged over seeds, with Wilson's interval; None for a class without images.

    The interval of several checkpoints is that of a single one with their mean recall. It covers the choice of test
    images, for which it is conservative, but not the variation between seeds.
    """
    each = np.stack([np.diag(checkpoint.confusion) for checkpoint in row.checkpoints])
    totals = row.checkpoints[0].confusion.sum(axis=1)
    effective = _effective_sizes(row, confidence)
    return [
        _recall(right, int(total), effective.get(label, float(total)), confidence)
        for label, (right, total) in enumerate(zip(each.T, totals, strict=True))
    ]


def _effective_sizes(row: Row, confidence: float) -> dict[int, float]:
    """Return the effective sample sizes of the classes whose test images come in groups."""
    answers = row.checkpoints[0].answers
    if row.right is None or answers is None:
        return {}
    found, mean = {}, row.right.mean(axis=0)
    for label in np.unique(answers.labels).tolist():
        inside = answers.labels == label
        if (groups := meaningful(answers.group[inside])) is not None:
            found[label] = effective_size(mean[inside], groups, confidence=confidence)
    return found


def _recall(right: NDArray[np.int64], total: int, effective: float, confidence: float) -> Score | None:
    if total == 0:
        return None
    mean = float(right.mean()) / total
    # A whole number of images, unless groups make it an effective one.
    successes = round(mean * total) if effective == total else mean * effective
    interval = wilson_interval(successes, effective, confidence=confidence)
    # The interval is that of a whole number of images, which the mean of several seeds need not be.
    interval = Interval(low=min(interval.low, mean), high=max(interval.high, mean))
    return Score(value=mean, interval=interval, over_seeds=False, least=right.min() / total, most=right.max() / total)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Images of the class ``true`` that are taken for the class ``predicted``, summed over a row's checkpoints."""

    true: str
    predicted: str
    images: int
    share: float
    """Of all images of the class ``true``."""


def most_confused(row: Row, *, most: int = 10) -> list[Confusion]:
    """Return the most frequent confusions of a row, the most frequent first."""
    counts = np.sum([checkpoint.confusion for checkpoint in row.checkpoints], axis=0)
    totals, wrong = counts.sum(axis=1), counts - np.diag(np.diag(counts))
    names = row.first.dataset.class_names
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        Confusion(
            true=names[true],
            predicted=names[predicted],
            images=int(wrong[true, predicted]),
            share=float(wrong[true, predicted] / totals[true]),
        )
        for true, predicted in places
        if wrong[true, predicted]
    ]


def worst_class(row: Row) -> tuple[str, Score] | None:
    """Return the class with the lowest recall, with an interval that is simultaneous over all classes (Bonferroni).

    The class is selected for its low recall: an interval for a class chosen in advance would be too short.
    """
    classes = np.count_nonzero(row.checkpoints[0].confusion.sum(axis=1))
    scores = recalls(row, confidence=1 - 0.05 / max(int(classes), 1))
    found = zip(row.first.dataset.class_names, scores, strict=True)
    known = [(name, score) for name, score in found if score is not None]
    return min(known, key=lambda pair: pair[1].value, default=None)


def small_classes(table: Table) -> list[tuple[str, int]]:
    """Return the names and test images of the classes with 1 to 29 test images."""
    counts = zip(table.first.dataset.class_names, table.test_counts, strict=True)
    return [(name, count) for name, count in counts if 0 < count < SMALL_CLASS]


def minority_classes(table: Table) -> list[int]:
    """Return the classes with fewer than half as many images as the median class, before undersampling."""
    counts = table.first.dataset.counts
    # Undersampling changes train only; val and test keep the proportions of the data set.
    natural = ("val", "test") if table.first.dataset.undersampled else ("train", "val", "test")
    sizes = np.sum([counts[split] for split in natural], axis=0)
    return [int(label) for label in np.flatnonzero(sizes < np.median(sizes) / 2)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """A technique against class imbalance against the same setting without it, on the images of two sets of classes.

    ``holm`` is the p value on the minority classes, adjusted over all techniques of the table by Holm's method.
    ``detectable`` is the minimum detectable difference there, at 80 % power and the level of Holm's first step.
    """

    row: Row
    minority: Paired
    others: Paired
    holm: float
    detectable: float | None


def effects(rows: Sequence[Row], table: Table, groups: Groups | None) -> list[Effect]:
    """Return the effects of the techniques of ``--imbalance`` in some rows whose predictions are available.

    Empty if the table has no minority class with test images, or no setting both with and without a technique.
    """
    plain = {_setting(row.first.base): row for row in rows if row.first.base.train.imbalance == "none"}
    pairs = [(plain.get(_setting(row.first.base)), row) for row in rows if row.first.base.train.imbalance != "none"]
    found = [(first.right, row.right, row) for first, row in pairs if first is not None]
    answers = rows[0].checkpoints[0].answers if rows else None
    inside = np.isin(answers.labels, minority_classes(table)) if answers is not None else np.zeros(0, dtype=bool)
    if not found or not inside.any() or inside.all():
        return []

    def on(places: NDArray[np.bool_], first: Right, second: Right) -> Paired:
        return compare_pair(first[:, places], second[:, places], None if groups is None else groups[places])

    tested = [
        (
            row,
            on(inside, first, second),
            on(~inside, first, second),
            _detectable(first, second, inside, groups, len(found)),
        )
        for first, second, row in found
        if first is not None and second is not None
    ]
    adjusted = holm(np.array([minority.p_value for _, minority, _, _ in tested]))
    return [
        Effect(row=row, minority=minority, others=others, holm=float(p_value), detectable=detectable)
        for (row, minority, others, detectable), p_value in zip(tested, adjusted, strict=True)
    ]


def _detectable(
    first: Right, second: Right, places: NDArray[np.bool_], groups: Groups | None, tests: int
) -> float | None:
    power = power_of([first[:, places], second[:, places]], None if groups is None else groups[places], tests=tests)
    return power.difference if power else None


def _setting(config: RunConfig) -> str:
    """Return what two rows have in common that differ in the technique only."""
    overrides = {name: value for name, value in config.overrides.items() if name != "imbalance"}
    shared = replace(
        config,
        seed=0,
        split=replace(config.split, fold=None),
        runtime=RuntimeConfig(),
        train=replace(config.train, imbalance="none"),
        overrides=overrides,
    )
    return hash_of(identity(shared))
