"""Races of made-up candidates: who leaves when, how the time is divided, and what an interruption changes."""

import msgspec
import numpy as np
import pytest

from bench.selection.racing import probability_missed, run_race
from bench.selection.records import Entrant, Ledger
from tests.bench.selection.made_up import STAGES, World, whole_s

SPREAD = np.linspace(0.80, 0.92, 12)


def _reasons(entrants: tuple[Entrant, ...]) -> list[str | None]:
    return [None if entrant.left is None else entrant.left.reason for entrant in entrants]


def test_with_time_for_everything_nobody_leaves_before_the_last_round_but_as_significantly_worse() -> None:
    world = World(accuracies=SPREAD, images=1000)
    race = world.race(3 * whole_s(world))

    finalists = run_race(race)

    before = [entrant for entrant in race.ledger.entrants if entrant.left and entrant.left.round != len(STAGES) - 1]
    assert before
    assert {entrant.left.reason for entrant in before if entrant.left} == {"significantly worse"}
    assert all(entrant.left.round for entrant in before if entrant.left)  # frozen features exclude nobody
    assert [entrant.number for entrant in finalists] == sorted(
        (entrant.number for entrant in finalists), key=lambda number: -world.final(number)
    )


@pytest.mark.parametrize("part", [0.4, 0.5, 0.8])
def test_the_rounds_end_in_time_and_all_candidates_are_in_the_first(part: float) -> None:
    world = World(accuracies=SPREAD)
    limit_s = part * whole_s(world)
    race = world.race(limit_s)

    finalists = run_race(race)

    assert finalists
    assert all(len(finalist.scores) == len(STAGES) for finalist in finalists)
    assert world.now_s + race.costs.end_s(finalists) <= limit_s
    assert {number for number, index in world.trained if index == 0} == set(range(len(SPREAD)))
    assert set(_reasons(race.ledger.entrants)) <= {None, "budget", "significantly worse"}
    assert len(world.trained) == len(set(world.trained))  # nothing is trained twice


def test_expensive_candidates_give_way_where_they_do_not_fit() -> None:
    forward_s = np.full(12, 0.005)
    forward_s[-1] = 0.5  # the best one
    world = World(accuracies=SPREAD, forward_s=forward_s)
    race = world.race(world.race(1.0).costs.least_s(world.entrants()) + 600)

    finalists = run_race(race)

    left = race.ledger.entrants[11].left
    assert left is not None
    assert (left.reason, left.round) == ("budget", 0)
    assert len(finalists) == 3
    assert probability_missed(race) > 0.05  # and it is said


def test_a_race_without_time_for_any_training_completes_the_cheapest() -> None:
    forward_s = np.linspace(0.02, 0.01, 12)
    world = World(accuracies=SPREAD, forward_s=forward_s)

    finalists = run_race(world.race(1.0))

    assert [finalist.number for finalist in finalists] == [11]


def test_a_failed_candidate_is_out_with_its_reason_and_the_others_go_on() -> None:
    world = World(accuracies=SPREAD, errors={(11, 1): "OutOfMemoryError: too large", (3, 0): "RunError: no"})
    race = world.race(3 * whole_s(world))

    finalists = run_race(race)

    failed = {
        entrant.number: entrant.left
        for entrant in race.ledger.entrants
        if entrant.left and entrant.left.reason == "failed"
    }
    assert {number: left.text for number, left in failed.items()} == {
        11: "OutOfMemoryError: too large",
        3: "RunError: no",
    }
    assert len(finalists) == 3
    assert 11 not in [finalist.number for finalist in finalists]


def test_two_races_of_a_few_val_images_leave_by_budget_only() -> None:
    world = World(accuracies=SPREAD, images=12)
    race = world.race(0.5 * whole_s(world))

    run_race(race)

    assert set(_reasons(race.ledger.entrants)) == {None, "budget"}


@pytest.mark.parametrize("stop_after", [0, 5, 13, 20])
def test_an_interrupted_race_continues_with_what_was_kept(stop_after: int) -> None:
    kept: dict[int, bytes] = {}

    def keep(entrant: Entrant) -> None:
        kept[entrant.number] = msgspec.json.encode(entrant)

    world = World(accuracies=SPREAD, errors={(4, 0): "RunError: no"})
    limit_s = 0.6 * whole_s(world)
    with pytest.raises(KeyboardInterrupt):
        run_race(world.race(limit_s, ledger=Ledger(world.entrants(), keep), stop_after=stop_after))
    stored = [
        msgspec.json.decode(kept[entrant.number], type=Entrant) if entrant.number in kept else entrant
        for entrant in world.entrants()
    ]
    continued = world.race(limit_s, ledger=Ledger(stored, keep))

    finalists = run_race(continued)

    undisturbed = World(accuracies=SPREAD, errors={(4, 0): "RunError: no"})
    expected = undisturbed.race(limit_s)
    assert [finalist.number for finalist in finalists] == [finalist.number for finalist in run_race(expected)]
    assert len(world.trained) == len(set(world.trained))
    assert world.now_s <= limit_s
    assert [msgspec.json.decode(kept[entrant.number], type=Entrant) for entrant in continued.ledger.entrants] == [
        *continued.ledger.entrants
    ]
