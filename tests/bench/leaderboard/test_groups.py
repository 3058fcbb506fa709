"""Tables of test images that come in groups."""

from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.comparison import analysis
from bench.comparison.analysis import Comparison
from bench.comparison.results.building import table_result
from bench.comparison.scores import recalls
from tests.helpers import boards, examples
from tests.helpers.correlated import drawn
from tests.helpers.documents import markdown_of

GROUPS = np.arange(240) // 10


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models whose results are alike within groups of ten images."""
    # The groups are of one class, as images of one object are.
    labels = GROUPS % 3
    info = examples.data_of(labels, boards.NAMES, grouped_by="patient")
    models = drawn(np.random.default_rng(13), [0.6, 0.72], images=240, cluster=10)
    for name, right in zip(("first", "second"), models, strict=True):
        predictions = examples.predictions_of(right[0], labels, classes=3, group=GROUPS.astype(np.int32))
        examples.keep(tmp_path, name, predictions, info)
    return tmp_path


def alone(grouped: Path, target: Path) -> Comparison:
    """Return the same table without groups."""
    for row in analysis.read(grouped)[0].compared:
        predictions = row.checkpoints[0].predictions
        assert predictions is not None
        plain = examples.predictions_of(predictions.right, predictions.labels, classes=3)
        examples.keep(target, row.first.config.model, plain, row.first.dataset)
    return analysis.read(target)[0]


def test_all_statistics_of_a_table_use_groups(results: Path, tmp_path: Path) -> None:
    (grouped,), single = analysis.read(results), alone(results, tmp_path / "alone")
    assert (grouped.number, grouped.independent, single.independent) == (240, 24, 240)
    assert grouped.pairwise.holm[0, 1] > 0.05 > single.pairwise.holm[0, 1]
    assert grouped.adjusted(*grouped.compared) > 0.05
    assert grouped.power is not None
    assert single.power is not None
    assert (grouped.power.difference or 1) > 2 * (single.power.difference or 0)
    pairs = list(zip(grouped.compared, single.compared, strict=True))
    for row, plain in pairs:
        assert width(grouped.accuracy(row).interval) > 1.5 * width(single.accuracy(plain).interval)
        assert width(grouped.macro_f1(row).interval) > 1.5 * width(single.macro_f1(plain).interval)
        for recall, of_plain in zip(recalls(row), recalls(plain), strict=True):
            assert recall is not None
            assert of_plain is not None
            assert width(recall.interval) > width(of_plain.interval)
    assert width(grouped.majority.interval) > 1.5 * width(single.majority.interval)


def width(interval: object) -> float:
    return float(interval.high - interval.low)  # type: ignore[attr-defined]


def test_val_minus_test_uses_groups(results: Path, tmp_path: Path) -> None:
    def gap(comparison: Comparison) -> float:
        estimate = table_result(comparison).checkpoints[0].gap
        assert estimate is not None
        return width(estimate)

    assert gap(analysis.read(results)[0]) > 1.5 * gap(alone(results, tmp_path / "alone"))


def test_page_states_images_and_groups(results: Path) -> None:
    text = markdown_of(*analysis.read(results))
    assert "of 240 test images (24 independent)" in text
    assert "- Groups of images that are not independent: by `patient`" in text


def test_compare_tests_groups(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "first", "second", "--results", str(results)]) == 0
    shown = capsys.readouterr().out
    assert "240 test images (24 independent)" in shown
    assert "no significant difference between these checkpoints" in shown


def test_leaks_of_a_grouped_split_are_named(tmp_path: Path) -> None:
    info = examples.data_of(boards.LABELS, boards.NAMES, grouped_by="patient", split_source="given")
    predictions = examples.predictions_of(boards.some_right(0.7), boards.LABELS, classes=3, leaked=np.arange(240) < 12)
    examples.keep(tmp_path, "net", predictions, info)
    text = markdown_of(*analysis.read(tmp_path))
    assert "12 of 240 test images have a duplicate or an image of their group (by `patient`) in train or val" in text
