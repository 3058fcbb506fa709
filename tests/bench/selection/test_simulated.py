"""Simulated races through the functions of the race: false departures, and how often the best candidate stays.

The table of docs/selection.md has more of them: ``python -m tests.benchmarks.races``.
"""

import numpy as np
import pytest
from scipy.stats import binomtest

from bench.selection.racing import run_race
from tests.bench.selection.made_up import World, whole_s
from tests.benchmarks.races import Cell, simulate

RACES = 120


@pytest.mark.parametrize(("images", "cluster"), [(250, 1), (1000, 1), (400, 4)])
def test_of_equal_candidates_one_is_significantly_worse_in_at_most_a_twentieth_of_races(
    images: int, cluster: int
) -> None:
    false = 0
    for seed in range(RACES):
        world = World(
            accuracies=np.full(8, 0.85), images=images, cluster=cluster, seed=seed, form_error=(0.0, 0.0, 0.0, 0.0)
        )
        # With time for everything, so that all take part in every test.
        race = world.race(3 * whole_s(world))
        run_race(race)
        false += any(entrant.left and entrant.left.reason == "significantly worse" for entrant in race.ledger.entrants)

    # Fails only where the 99 % interval of the simulation excludes the promise.
    assert binomtest(false, RACES, 0.05, alternative="greater").pvalue > 0.005


@pytest.mark.parametrize(
    "cell",
    [
        Cell(candidates=30, lead=0.05, images=250, cluster=1),
        Cell(candidates=50, lead=0.02, images=250, cluster=1),
    ],
)
def test_the_best_stays_as_often_as_after_training_all_in_half_of_that_time(cell: Cell) -> None:
    result = simulate(cell, races=RACES, part=0.5)

    kept = round(result.kept * RACES)
    assert binomtest(kept, RACES, min(0.95 * result.ceiling, 1.0), alternative="less").pvalue > 0.005
    # By the number of candidates alone, a finalist would be the best this often.
    assert result.kept > 3 * 5 / cell.candidates
    assert result.regrets["race"] < result.regrets["features"]
