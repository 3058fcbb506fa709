"""Techniques against class imbalance in a table: each against the same setting without it, on minority and others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from bench.comparison import analysis
from bench.comparison.measures import of_interval
from bench.comparison.results.imbalance import effects
from bench.config import RunConfig, with_overrides
from bench.recipes import RECIPES
from bench.stats.pairs import compare_pair
from bench.stats.power import power_of
from tests.helpers import examples
from tests.helpers.boards import NAMES, some_right
from tests.helpers.documents import markdown_of


def technique(model: str, name: str, **changes: Any) -> RunConfig:
    return with_overrides(RECIPES["quick"](model), {"imbalance": name, **changes})


def test_technique_is_compared_with_the_same_setting_without_it(tmp_path: Path) -> None:
    """On the images of minority classes and on all others, by the tests of those images alone."""
    labels = np.repeat([0, 1, 2], [100, 90, 40])
    info = examples.data_of(labels, NAMES)
    plain, helped = some_right(0.6, labels=labels), some_right(0.9, labels=labels, seed=1)
    mixed = np.where(labels == 2, helped, plain & some_right(0.9, labels=labels, seed=2))
    runs = {
        ("a", "none", ()): plain,
        ("a", "focal", ()): mixed,
        ("a", "class-weights", ()): plain,
        # Without a partner: another learning rate, another model.
        ("a", "focal", (("lr", 0.1),)): helped,
        ("b", "focal", ()): helped,
    }
    for (model, name, changes), right in runs.items():
        predictions = examples.predictions_of(right, labels, classes=3)
        examples.keep(tmp_path, model, predictions, info, config=technique(model, name, **dict(changes)))
    (found,) = analysis.read(tmp_path)
    by_setting = {row.setting[0]: effects(found)[row.row_id] for row in found.compared if row.row_id in effects(found)}
    assert set(by_setting) == {"imbalance=focal", "imbalance=class-weights"}
    inside = labels == 2
    focal, weighted = by_setting["imbalance=focal"], by_setting["imbalance=class-weights"]
    minority = compare_pair(mixed[None, inside], plain[None, inside])
    others = compare_pair(mixed[None, ~inside], plain[None, ~inside])
    assert focal.minority == of_interval(minority.difference, minority.interval)
    assert focal.others == of_interval(others.difference, others.interval)
    # Holm over two techniques, of which the other is far from significant.
    assert focal.holm == pytest.approx(2 * minority.p_value)
    assert weighted.minority.value == 0 == weighted.others.value
    assert weighted.holm == 1
    alone = power_of([plain[None, inside], mixed[None, inside]])
    assert alone is not None
    assert alone.difference is not None
    assert focal.detectable is not None
    assert focal.detectable > alone.difference
    text = markdown_of(found)
    section = text[text.index("<summary>Class imbalance</summary>") :]
    assert "Minority classes: `eel`" in section
    assert f"{100 * focal.minority.value:+.1f} (" in section


def test_table_without_techniques_has_no_section_of_them(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [100, 90, 40])
    examples.keep(
        tmp_path,
        "a",
        examples.predictions_of(some_right(0.7, labels=labels), labels, classes=3),
        examples.data_of(labels, NAMES),
    )
    (found,) = analysis.read(tmp_path)
    assert effects(found) == {}
    assert "Class imbalance" not in markdown_of(found)


def test_false_effects_of_techniques_are_rare(tmp_path: Path) -> None:
    """Of tables with six techniques that change nothing, at most 5 % find an effect (99 % Monte Carlo interval)."""
    labels, tables, found = np.repeat([0, 1, 2], [60, 60, 25]), 60, 0
    info = examples.data_of(labels, NAMES)
    names = (
        "none",
        "undersample",
        "class-weights",
        "balanced-sampler",
        "focal",
        "logit-adjustment",
        "balanced-softmax",
    )
    for number in range(tables):
        folder = tmp_path / str(number)
        hard = np.random.default_rng(number).uniform(0.3, 0.95, len(labels))
        for place, name in enumerate(names):
            right = np.random.default_rng([number, place + 1]).random(len(labels)) < hard
            predictions = examples.predictions_of(right, labels, classes=3)
            examples.keep(folder, "a", predictions, info, config=technique("a", name))
        (one,) = analysis.read(folder)
        assert len(effects(one)) == len(names) - 1
        found += any(effect.holm <= 0.05 for effect in effects(one).values())
    # The largest count that a rate of 5 % reaches with a probability of 0.5 % or more.
    assert found <= binom.ppf(0.995, tables, 0.05)
