"""The working tree against a base revision; ``nox -s regression -- --base main``. Each failure is an alarm."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.regression import compare, judge
from tests.regression.compare import ROUNDS, NotInBaseError, Pair, Ratio, Sides
from tests.regression.probe import CASES

Record = Callable[[str, object], None]


@pytest.mark.benchmark
@pytest.mark.parametrize("case", CASES)
def test_no_case_takes_longer(
    benchmark: Any, record_property: Record, sides: Sides, pairs: list[Pair], case: str
) -> None:
    """An alarm needs the interval above the limit twice, the second time in fresh processes."""
    try:
        count = compare.repetitions(pairs, case)
    except NotInBaseError as error:
        pytest.skip(f"not in base: {error}")
    ratios: list[Ratio] = []
    numbers = itertools.count()
    benchmark.pedantic(
        lambda: ratios.append(compare.one_round(pairs, case, count, next(numbers))), rounds=ROUNDS, warmup_rounds=0
    )
    assert len(ratios) == ROUNDS, "--benchmark-disable leaves nothing to judge"
    found = say(ratios, "", benchmark.extra_info, record_property)
    if not (slow := compare.slower_clocks(ratios)):
        return
    with compare.fresh_pairs(sides.base, sides.head, sides.base_trained.onnx) as others:
        again = compare.rounds(others, case)
    found += say(again, "again, ", benchmark.extra_info, record_property)
    assert not slow & compare.slower_clocks(again), f"{case} takes longer: {'; '.join(found)}"


def say(ratios: list[Ratio], prefix: str, extra_info: dict[str, object], record: Record) -> list[str]:
    """Keep the interval and the rounds with the benchmark, the interval with the test's report, and give it."""
    lines = []
    for clock, interval in compare.intervals(ratios).items():
        name, text = f"{prefix}head/base {clock}", f"{interval.low:.3f} to {interval.high:.3f}"
        extra_info |= {name: text, f"{name} rounds": [round(ratio[clock], 3) for ratio in ratios]}
        record(name, text)
        lines.append(f"{name} {text}")
    return lines


def test_the_model_that_each_version_trains_is_right_as_often(sides: Sides, record_property: Record) -> None:
    found = compare.tested(sides)
    record_property("paired", found)
    assert not found.worse, f"trained by head, the model is right less often: {found}"


def test_each_version_labels_photos_as_rightly_with_the_bases_model(
    sides: Sides, pairs: list[Pair], record_property: Record
) -> None:
    photos = compare.photos_of(sides.base)
    assert photos
    found = judge.paired([photo.parent.name for photo in photos], *compare.label_both(pairs[0], photos))
    record_property("paired", found)
    assert not found.worse, f"the base's model is right less often through head's code: {found}"


def test_parameters_macs_and_onnx_nodes_are_the_same(sides: Sides, record_property: Record) -> None:
    base, head = map(compare.counts, compare.both_trained(sides))
    record_property("counts", base)
    changed = judge.exact_changes(base, head)
    assert not changed, f"changed: {'; '.join(changed)}"
