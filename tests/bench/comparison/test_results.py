"""The results of a table as values: written as JSON, computed once, and with one sign."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.comparison import analysis, scores
from bench.comparison.results import building, checkpoints
from bench.comparison.results.building import table_result
from bench.comparison.results.values import TableResult
from bench.leaderboard import page
from bench.recipes import RECIPES
from bench.records.paths import Paths
from tests.helpers.boards import keep, some_right

EXAMPLES = sorted((Path(__file__).parents[3] / "results" / "examples").iterdir())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in range(2):
        for model, share in (("a", 0.95), ("b", 0.8), ("c", 0.6)):
            keep(tmp_path, model, some_right(share, seed=seed), seed=seed)
    return tmp_path


def read(results: Path) -> TableResult:
    (comparison,) = analysis.read(results)
    return table_result(comparison)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_results_are_written_as_json_and_read_back(example: Path) -> None:
    for comparison in analysis.read(example):
        found = table_result(comparison)
        assert msgspec.json.decode(msgspec.json.encode(found), type=TableResult) == found


def test_difference_of_a_pair_is_the_first_minus_the_second(results: Path) -> None:
    found = read(results)
    assert [(found.by_id[pair.first].name, found.by_id[pair.second].name) for pair in found.pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for pair in found.pairs:
        first, second = (found.by_id[row].measures["top1"].value for row in (pair.first, pair.second))
        assert pair.difference.value == pytest.approx(first - second)
        assert pair.difference.low is not None
        assert pair.difference.high is not None
        assert pair.difference.low <= pair.difference.value <= pair.difference.high
        assert pair.significant == (pair.difference.low > 0)


def test_statistics_are_computed_once_a_table(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leaderboard of three rows with two seeds each: three pairs, six checkpoints."""
    calls: Counter[str] = Counter()

    def counted(module: ModuleType, name: str) -> Callable[..., Any]:
        compute = getattr(module, name)

        def count(*arguments: Any, **options: Any) -> Any:
            calls[name] += 1
            return compute(*arguments, **options)

        return count

    once = {
        analysis: ("fronts", "power_of", "best_probabilities", "rank_intervals", "seed_component"),
        building: ("conditions_of", "effects", "latency_lines", "sources_of"),
    }
    other = {
        analysis: ("compare_pair",),
        scores: ("macro_intervals", "calibrated_ece"),
        checkpoints: ("effective_size",),
    }
    for registry in (once, other):
        for module, names in registry.items():
            for name in names:
                monkeypatch.setattr(module, name, counted(module, name))
    page.write(Paths(results=results))
    assert {name: calls[name] for names in once.values() for name in names} == {
        name: 1 for names in once.values() for name in names
    }
    assert (calls["compare_pair"], calls["macro_intervals"], calls["calibrated_ece"]) == (3, 6, 6)


def test_pairs_beyond_those_shown_have_intervals_for_the_page_only(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "PAIRS_SHOWN", 0)
    (comparison,) = analysis.read(results)
    short, whole = table_result(comparison), table_result(comparison, all_intervals=True)
    # Those of the most accurate row, about which there are sentences.
    assert [pair.difference.low is not None for pair in short.pairs] == [True, True, False]
    assert all(pair.difference.low is not None for pair in whole.pairs)
    assert np.allclose([pair.difference.value for pair in short.pairs], [pair.difference.value for pair in whole.pairs])


def test_versions_of_an_augmentation_are_rows_of_their_own(tmp_path: Path) -> None:
    plain = RECIPES["finetune"]("a")
    for version in (1, 2):
        keep(tmp_path, "a", some_right(0.9), config=replace(plain, augmentation_version=version))
    names = [row.name for row in read(tmp_path).rows]
    assert names == ["a (augmentation_version=1)", "a (augmentation_version=2)"]
