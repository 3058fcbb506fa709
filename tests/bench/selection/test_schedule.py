"""The expected time of a race, and the rounds of a training."""

import pytest

from bench.selection.forms import Stage
from bench.selection.records import Entrant, Scored
from bench.selection.schedule import Costs, Images, stages_of


@pytest.mark.parametrize(("epochs", "ends"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (5, [1, 3, 5]), (20, [4, 12, 20])])
def test_rounds_begin_with_frozen_features_and_end_with_the_whole_training(epochs: int, ends: list[int]) -> None:
    features, *trained = stages_of(epochs)

    assert not features.trains
    assert [stage.epochs for stage in trained] == ends
    assert {stage.of_epochs for stage in trained} == {epochs}


def _costs(*, prefit: bool = True) -> Costs:
    return Costs(stages=stages_of(5), images=Images(train=1000, val=200, test=200), prefit=prefit)


def _entrant(number: int = 0, forward_s: float = 0.01) -> Entrant:
    return Entrant(number=number, model="net", image_size=64, forward_s=forward_s)


def _scored(index: int, seconds: float) -> Scored:
    return Scored(round=index, val_top1_accuracy=0.5, right="", seconds=seconds, at_s=0.0)


def test_later_rounds_cost_only_what_they_add_and_all_rounds_add_up() -> None:
    costs, entrant = _costs(), _entrant()

    rounds = [costs.stage_s(entrant, index) for index in range(4)]

    assert rounds[0] < rounds[1] < rounds[2]
    assert rounds[2] == rounds[3]  # two epochs each
    assert costs.rest_s(entrant, 1) == pytest.approx(sum(rounds[1:]))
    assert costs.stage_s(entrant, 1) - _costs(prefit=False).stage_s(entrant, 1) == pytest.approx(12.0)


def test_expectations_follow_what_forms_of_the_same_kind_took() -> None:
    costs, entrant, other = _costs(), _entrant(), _entrant(1, 0.1)
    plain = costs.stage_s(entrant, 2)
    twice = [
        Entrant(
            number=number,
            model="net",
            image_size=64,
            forward_s=0.05,
            scores=(_scored(1, 2 * costs.stage_s(_entrant(forward_s=0.05), 1)),),
        )
        for number in (2, 3)
    ]

    assert costs.stage_s(entrant, 2, twice) == pytest.approx(2 * plain)
    assert costs.stage_s(other, 2, twice) == pytest.approx(2 * costs.stage_s(other, 2))
    assert costs.stage_s(entrant, 0, twice) == costs.stage_s(entrant, 0)  # another kind of form


def test_the_least_time_is_a_first_round_of_all_and_the_cheapest_finalist() -> None:
    costs, cheap, costly = _costs(), _entrant(0, 0.01), _entrant(1, 0.1)

    least_s = costs.least_s([cheap, costly])

    first = costs.stage_s(cheap, 0) + costs.stage_s(costly, 0)
    assert least_s == pytest.approx(first + costs.rest_s(cheap, 1) + costs.end_s([cheap]))
    assert costs.end_s([cheap, costly]) > costs.end_s([cheap])


def test_names_of_rounds_say_what_was_trained() -> None:
    assert str(Stage(share=0.5)) == "frozen features of 50 % of train"
    assert str(Stage(epochs=3, of_epochs=5)) == "3 of 5 epochs"
