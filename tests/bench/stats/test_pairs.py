"""Tests of pairs of models: published examples, properties, and error rates in simulation."""

import gc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench.stats.intervals import Interval, wilson_interval
from bench.stats.pairs import ALPHA, Right, compare_all, compare_pair, holm, simultaneous
from bench.stats.power import power_of
from tests.helpers.correlated import drawn


def table(both: int, gained: int, lost: int, neither: int) -> tuple[Right, Right]:
    counts = [both, gained, lost, neither]
    return np.repeat([1, 0, 1, 0], counts).astype(bool)[None], np.repeat([1, 1, 0, 0], counts).astype(bool)[None]


@pytest.mark.parametrize(
    ("counts", "p_value", "mid_p"),
    [((1, 1, 7, 12), 0.070, 0.039), ((59, 6, 16, 80), 0.052, 0.035)],  # Fagerland, Lydersen and Laake 2013, Table 5
)
def test_one_seed_uses_exact_mcnemar(counts: tuple[int, int, int, int], p_value: float, mid_p: float) -> None:
    paired = compare_pair(*table(*counts))
    assert (round(paired.p_value, 3), round(paired.mid_p, 3)) == (p_value, mid_p)


@given(counts=st.tuples(*[st.integers(0, 60)] * 4).filter(lambda counts: sum(counts) > 0))
def test_mcnemar_is_statsmodels(counts: tuple[int, int, int, int]) -> None:
    first, second = table(*counts)
    both, gained, lost, neither = counts
    expected = min(mcnemar([[both, gained], [lost, neither]], exact=True).pvalue, 1.0)
    assert compare_pair(first, second).p_value == pytest.approx(expected, abs=1e-12)
    assert compare_all([first, second]).p_values[0, 1] == pytest.approx(expected, abs=1e-12)


def test_holm_matches_the_published_example() -> None:
    adjusted = holm(np.array([0.01, 0.04, 0.03, 0.005]))  # multiplied by 3, 1, 2 and 4, then made monotone
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert len(holm(np.array([]))) == 0


def test_sign_flip_test_is_exact() -> None:
    rng = np.random.default_rng(1)
    first, second = drawn(rng, [0.6, 0.75], seeds=3, images=12)
    change = second.mean(axis=0) - first.mean(axis=0)
    exact = permutation_test((change,), lambda x: x.sum(), permutation_type="samples", n_resamples=10**6)
    assert compare_pair(first, second).p_value == pytest.approx(exact.pvalue, abs=1e-9)


def test_unequal_seed_counts_compare_means() -> None:
    rng = np.random.default_rng(2)
    first, second = drawn(rng, [0.6], seeds=2)[0], drawn(rng, [0.8], seeds=3)[0]
    forward, back = compare_pair(first, second), compare_pair(second, first)
    assert forward.difference == pytest.approx(first.mean() - second.mean())
    assert forward.p_value == back.p_value
    assert forward.interval.low == pytest.approx(-back.interval.high)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 2, 3, 5]), images=st.integers(1, 40))
def test_p_values_and_intervals_are_consistent(seed: int, seeds: int, images: int) -> None:
    first, second = drawn(np.random.default_rng(seed), [0.5, 0.9], seeds=seeds, images=images)
    paired, same = compare_pair(first, second), compare_pair(first, first)
    assert 0 <= paired.mid_p <= paired.p_value <= 1
    assert -1 <= paired.interval.low <= paired.difference + 1e-12
    assert paired.difference - 1e-12 <= paired.interval.high <= 1
    assert (same.p_value, same.difference) == (1.0, 0.0)
    assert same.interval.high > 0


def test_two_images_show_no_difference() -> None:
    for seeds in (1, 3, 5):
        all_wrong, all_right = np.zeros((seeds, 2), dtype=bool), np.ones((seeds, 2), dtype=bool)
        assert compare_pair(all_wrong, all_right).p_value >= 0.499
        assert not compare_all([all_wrong, all_right]).apart.any()
    power = power_of([all_wrong[:1], all_right[:1]])
    assert power is not None
    assert power.difference is None


@pytest.mark.parametrize(
    ("seeds", "tables", "luck"), [(1, 1000, 0.0), (3, 500, 0.0), (5, 500, 0.0), (5, 500, 0.15), (8, 500, 0.4)]
)
def test_false_positives_are_at_most_5_percent(seeds: int, tables: int, luck: float) -> None:
    """Without luck, all checkpoints are equal; with luck, seeds differ in skill, and only the models are equal."""
    rng = np.random.default_rng(seeds)
    wrong = sum(bool(compare_all(drawn(rng, [0.8] * 4, seeds=seeds, luck=luck)).apart.any()) for _ in range(tables))
    assert binomtest(wrong, tables, ALPHA, alternative="greater").pvalue > 0.01, f"{wrong} of {tables}"


@pytest.mark.parametrize("seeds", [3, 5])
def test_interval_over_seeds_covers(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    found = [compare_pair(*drawn(rng, [0.85, 0.75], seeds=seeds, images=200)).interval for _ in range(1000)]
    assert np.mean([interval.low <= 0.1 <= interval.high for interval in found]) >= 0.93


def agrees(interval: Interval, *, significant: bool) -> bool:
    """Whether an interval contains 0 if its test is not significant, and else has 0 at most as its bound."""
    return not interval.low < 0 < interval.high if significant else interval.low <= 0 <= interval.high


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), seeds=st.sampled_from([1, 3, 5]), level=st.sampled_from([0.05, 0.01, 0.001]))
def test_interval_agrees_with_its_test_at_every_level(seed: int, seeds: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = drawn(rng, [0.7, 0.7 + 0.2 * rng.random()], seeds=seeds, images=100)
    groups = rng.integers(0, 40, 100) if seed % 2 else None
    found = compare_pair(first, second, groups, level=level)
    assert agrees(found.interval, significant=found.p_value <= level)
    assert found.interval.low <= found.difference <= found.interval.high


@pytest.mark.parametrize(("seeds", "cluster", "tables"), [(1, 1, 400), (1, 6, 200), (3, 1, 150), (5, 1, 150)])
def test_simultaneous_intervals_cover_and_agree_with_holm(seeds: int, cluster: int, tables: int) -> None:
    rng, accuracies = np.random.default_rng([seeds, cluster]), [0.85, 0.85, 0.8, 0.6]
    groups, held = np.arange(180) // cluster, 0
    for _ in range(tables):
        models = drawn(rng, accuracies, seeds=seeds, cluster=cluster)
        tests, covered = compare_all(models, groups), True
        for first, second in combinations(range(4), 2):
            paired = compare_pair(models[first], models[second], groups, level=ALPHA / 6)
            interval = simultaneous(paired, tests.holm[first, second])
            assert agrees(interval, significant=tests.holm[first, second] <= ALPHA)
            covered &= interval.low <= accuracies[first] - accuracies[second] <= interval.high
        held += covered
    assert wilson_interval(held, tables, confidence=0.99).high >= 0.93, f"{held} of {tables}"


def around(difference: float) -> tuple[float, float]:
    return 0.7 - difference / 2, 0.7 + difference / 2


def usually_stated(rng: np.random.Generator, models: int, **options: float) -> float:
    """Return the median stated difference for 250 images, from tables of models that differ by as much."""
    stated = 0.1
    for _ in range(2):
        accuracies = [*around(stated), 0.7 - stated / 2][:models]
        tables = [drawn(rng, accuracies, images=250, **options) for _ in range(60)]
        powers = [power_of(table) for table in tables]
        stated = float(np.median([power.difference for power in powers if power and power.difference]))
    return stated


def found_share(rng: np.random.Generator, difference: float, *, again: bool = False, **options: float) -> float:
    """Return how often a difference is found, in the right direction; ``again`` adds the first model once more."""
    found, tries = 0, 1500
    for _ in range(tries):
        low, high = drawn(rng, list(around(difference)), images=250, **options)
        compared = compare_all([low, high, low] if again else [low, high])
        found += bool(compared.apart[0, 1] and compared.differences[1, 0] > 0)
    return found / tries


@pytest.mark.parametrize(("seeds", "luck"), [(1, 0.0), (3, 0.0), (5, 0.0), (8, 0.1)])
def test_stated_power_is_met_within_3_points(seeds: int, luck: float) -> None:
    rng = np.random.default_rng(10 + seeds)
    stated = usually_stated(rng, 2, seeds=seeds, luck=luck)
    assert found_share(rng, stated, seeds=seeds, luck=luck) == pytest.approx(0.8, abs=0.03)


def test_power_accounts_for_number_of_pairs() -> None:
    """If two of three models are identical, the third must differ at Holm's first step, at alpha over three."""
    rng = np.random.default_rng(3)
    assert found_share(rng, usually_stated(rng, 3), again=True) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("seeds", [[1, 1, 1], [3, 3, 3], [2, 3, 4], [5, 6, 7], [4, 5, 20]])
def test_all_pairs_equal_single_pairs(seeds: list[int]) -> None:
    rng = np.random.default_rng(sum(seeds))
    models = [
        drawn(rng, [accuracy], seeds=count, images=60)[0]
        for count, accuracy in zip(seeds, (0.6, 0.7, 0.9), strict=True)
    ]
    every = compare_all([*models, models[0]])
    for first, second in combinations(range(3), 2):
        assert every.p_values[first, second] == pytest.approx(
            compare_pair(models[first], models[second]).p_value, abs=1e-12
        )
    assert every.p_values[0, 3] == 1.0


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_statsmodels(p_values: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: 0)  # statsmodels collects garbage at every call, for tens of ms
        expected = multipletests(p_values, method="holm")[1]
    assert holm(np.array(p_values)).tolist() == expected.tolist()
