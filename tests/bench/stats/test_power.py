"""Sources of the uncertainty of a difference: their sum and what more data would give, against simulation."""

import numpy as np
import pytest

from bench.stats.power import sources_of
from tests.helpers.correlated import drawn

ACCURACIES = [0.8, 0.85]


def spread(rng: np.random.Generator, *, seeds: int, images: int, luck: float, cluster: int) -> float:
    """Return the variance of the difference over 300 repetitions of images and seeds."""
    pairs = [drawn(rng, ACCURACIES, seeds=seeds, images=images, luck=luck, cluster=cluster) for _ in range(300)]
    return float(np.var([second.mean() - first.mean() for first, second in pairs]))


@pytest.mark.parametrize(("luck", "cluster"), [(0.0, 1), (0.0, 6), (0.2, 1)])
def test_uncertainty_is_that_of_repetitions(luck: float, cluster: int) -> None:
    """And with ten times as many seeds or images, that of tables which have them."""
    rng, groups = np.random.default_rng(cluster), np.arange(300) // cluster
    tables = [drawn(rng, ACCURACIES, seeds=4, images=300, luck=luck, cluster=cluster) for _ in range(200)]
    found = [sources for table in tables if (sources := sources_of(*table, groups))]
    assert all(one.images + one.seeds + one.both == pytest.approx(1) for one in found)
    options = {"luck": luck, "cluster": cluster}
    for name, true in (
        ("half_width", spread(rng, seeds=4, images=300, **options)),
        ("with_seeds", spread(rng, seeds=40, images=300, **options)),
        ("with_images", spread(rng, seeds=4, images=3000, **options)),
    ):
        stated = np.mean([(getattr(one, name) / 1.96) ** 2 for one in found])
        # The variance of 300 repetitions has a standard error of 8 %. Without luck, what many images leave is an
        # estimate that is cut off at 0: too large, so that the statement is careful.
        most = 1.3 if luck or name != "with_images" else 2.5
        assert 0.7 * true <= stated <= most * true, name


def test_luck_of_seeds_is_told_from_that_of_images() -> None:
    rng = np.random.default_rng(0)
    lucky = sources_of(*drawn(rng, ACCURACIES, seeds=5, images=5000, luck=0.3))
    steady = sources_of(*drawn(rng, ACCURACIES, seeds=5, images=200))
    assert lucky is not None
    assert steady is not None
    assert lucky.seeds > 0.8
    assert steady.images + steady.both > 0.6
    assert lucky.with_seeds < 0.5 * lucky.half_width
    assert lucky.with_images > 0.8 * lucky.half_width


def test_one_seed_has_no_components() -> None:
    rng = np.random.default_rng(0)
    assert sources_of(*drawn(rng, ACCURACIES)) is None
    same = np.ones((3, 50), dtype=bool)
    assert sources_of(same, same) is None
