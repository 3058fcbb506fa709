"""The effects of techniques against class imbalance, each against the same setting without it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.comparison.analysis import Comparison
from bench.comparison.measures import of_interval
from bench.comparison.results.values import Effect
from bench.comparison.scores import minority_classes
from bench.config import RunConfig, without_repetition
from bench.records.ids import hash_of, identity
from bench.stats.groups import Groups
from bench.stats.pairs import Paired, Right, compare_pair, holm
from bench.stats.power import power_of


def effects(comparison: Comparison) -> dict[str, Effect]:
    """Return the effects of the techniques of ``--imbalance`` in the rows whose predictions are available, by row id.

    Empty if the table has no minority class with test images, or no setting both with and without a technique.
    """
    rows, groups = comparison.compared, comparison.groups
    plain = {_setting(row.first.base): row.right for row in rows if row.first.base.train.imbalance == "none"}
    matched = [
        (row.row_id, row.right, plain[_setting(row.first.base)])
        for row in rows
        if row.first.base.train.imbalance != "none" and _setting(row.first.base) in plain
    ]
    if not matched:
        return {}
    inside = np.isin(rows[0].predictions[0].labels, minority_classes(comparison.table))
    if not inside.any() or inside.all():
        return {}
    tested = [(_on(inside, right, plain, groups), _on(~inside, right, plain, groups)) for _, right, plain in matched]
    adjusted = holm(np.array([minority.p_value for minority, _ in tested])).tolist()
    return {
        row_id: Effect(
            minority=of_interval(minority.difference, minority.interval),
            others=of_interval(others.difference, others.interval),
            holm=p_value,
            detectable=_detectable(baseline, right, inside, groups, len(matched)),
        )
        for (row_id, right, baseline), (minority, others), p_value in zip(matched, tested, adjusted, strict=True)
    }


def _on(images: NDArray[np.bool_], right: Right, baseline: Right, groups: Groups | None) -> Paired:
    return compare_pair(right[:, images], baseline[:, images], None if groups is None else groups[images])


def _detectable(
    first: Right, second: Right, images: NDArray[np.bool_], groups: Groups | None, tests: int
) -> float | None:
    power = power_of([first[:, images], second[:, images]], None if groups is None else groups[images], tests=tests)
    return power.difference if power else None


def _setting(config: RunConfig) -> str:
    """Return what two rows have in common that differ in the technique only."""
    overrides = {name: value for name, value in config.overrides.items() if name != "imbalance"}
    plain = replace(config, train=replace(config.train, imbalance="none"), overrides=overrides)
    return hash_of(identity(without_repetition(plain)))
