"""The cost of training until val reaches an accuracy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.comparison import analysis
from bench.comparison.costs import cost_so_far, cost_to_accuracy
from bench.config import with_overrides, with_values
from bench.recipes import RECIPES
from bench.records.schema import RunRecord
from bench.records.store import record_path, write_json
from tests.helpers import examples
from tests.helpers.boards import NAMES, some_right
from tests.helpers.documents import markdown_of

LABELS = np.repeat([0, 1, 2], [40, 40, 40])


def trained(
    results: Path, accuracies: list[float], *, seed: int, layers: str = "all", head_s: float = 0.0
) -> RunRecord:
    """A run with these accuracies on val after its epochs of 30 s and 1,000 images; 2 GMACs per image."""
    info = examples.data_of(LABELS, NAMES)
    predictions = examples.predictions_of(some_right(0.7, labels=LABELS, seed=seed), LABELS, classes=3)
    config = with_overrides(RECIPES["quick"]("a"), {} if layers == "all" else {"tune_layers": layers})
    kept = examples.keep(results, "a", predictions, info, seed=seed, config=config)
    assert kept.outcome is not None
    history = tuple(
        replace(examples.EPOCH, epoch=place, train_time_s=30.0, images=1000, val_top1_accuracy=accuracy)
        for place, accuracy in enumerate(accuracies, start=1)
    )
    outcome = replace(
        kept.outcome,
        model=replace(kept.outcome.model, gmacs=2.0),
        training=replace(kept.outcome.training, history=history, head_time_s=head_s),
    )
    whole = replace(kept, outcome=outcome)
    write_json(whole, record_path(results, whole))
    return whole


def test_cost_is_that_of_the_first_epoch_that_reaches_it(tmp_path: Path) -> None:
    trained(tmp_path, [0.5, 0.86, 0.84, 0.88], seed=0)
    (found,) = analysis.read(tmp_path)
    (row,) = found.table.rows
    cost = cost_to_accuracy(row, 0.85)
    assert (cost.reached, cost.trainings) == (1, 1)
    assert cost.minutes == pytest.approx(1.0)
    # Two epochs of 1,000 images, three passes of 2 GMACs each.
    assert cost.tmacs == pytest.approx(2 * 1000 * 3 * 2 / 1000)
    assert cost_to_accuracy(row, 0.9).minutes is None
    text = markdown_of(found)
    assert "| `a` | 1.0 min, 12.00 TMACs | 1.0 min, 12.00 TMACs | not reached |" in text


def test_seeds_that_do_not_reach_it_are_counted(tmp_path: Path) -> None:
    for seed, accuracies in enumerate(([0.9, 0.9], [0.5, 0.9], [0.5, 0.6])):
        trained(tmp_path, list(accuracies), seed=seed)
    (found,) = analysis.read(tmp_path)
    cost = cost_to_accuracy(found.table.rows[0], 0.9)
    assert (cost.reached, cost.trainings) == (2, 3)
    assert cost.minutes == pytest.approx(0.75)
    assert "0.8 min, 9.00 TMACs (2 of 3 reached it)" in markdown_of(found)


@pytest.mark.parametrize(("layers", "passes"), [("head", 1000), ("head-then-all", 960 + 3000)])
def test_frozen_layers_have_no_backward_pass(layers: str, passes: int, tmp_path: Path) -> None:
    trained(tmp_path, [0.9], seed=0, layers=layers, head_s=0.0 if layers == "head" else 12.0)
    (found,) = analysis.read(tmp_path)
    cost = cost_to_accuracy(found.table.rows[0], 0.9)
    assert cost.tmacs == pytest.approx(passes * 2 / 1000)
    assert cost.minutes == pytest.approx(0.5 if layers == "head" else 0.7)


@pytest.mark.parametrize(("counts", "passes"), [((700, 260), 2 * 260), ((480, 0, 480), 960)])
def test_undersampled_train_is_what_the_classifier_was_fitted_to(
    counts: tuple[int, ...], passes: int, tmp_path: Path
) -> None:
    """Of a record that did not store the number."""
    record = trained(tmp_path, [0.9], seed=0, layers="head-then-all", head_s=12.0)
    config = with_values(record.config, {"imbalance": "undersample"})
    data = replace(record.dataset, counts=record.dataset.counts | {"train": counts})
    (_, tmacs, _), *_ = cost_so_far(replace(record, config=config, dataset=data))
    assert tmacs == pytest.approx((passes + 3000) * 2 / 1000)


def test_compute_is_that_of_the_network_that_was_trained(tmp_path: Path) -> None:
    """Its branches are merged afterwards; a classifier trained by gradient has seen the images several times."""
    record = trained(tmp_path, [0.9], seed=0, layers="head-then-all", head_s=12.0)
    assert record.outcome is not None
    model = replace(record.outcome.model, train_gmacs=3.0)
    training = replace(record.outcome.training, head_images=600)
    write_json(
        replace(record, outcome=replace(record.outcome, model=model, training=training)), record_path(tmp_path, record)
    )
    (found,) = analysis.read(tmp_path)
    assert cost_to_accuracy(found.table.rows[0], 0.9).tmacs == pytest.approx((600 + 3000) * 3 / 1000)
