"""What the leaderboard says of log loss, of the best row, and of images and seeds."""

from pathlib import Path

import numpy as np
import pytest

from bench.cli.main import main
from bench.comparison import analysis
from bench.comparison.analysis import Comparison
from bench.stats.losses import compare_losses
from bench.stats.pairs import ALPHA, compare_pair
from bench.stats.power import sources_of
from bench.stats.ranks import best_probabilities
from tests.helpers import examples
from tests.helpers.boards import LABELS, NAMES, some_right
from tests.helpers.documents import markdown_of, notes_of, summary_of, tables_of


def keep(results: Path, model: str, right: np.ndarray, p_true: np.ndarray, seed: int = 0) -> None:
    """A run whose calibrated probabilities of the true classes are ``p_true``."""
    log_p = np.log(p_true).astype(np.float32)
    predictions = examples.predictions_of(right, LABELS, classes=3, log_p_true_calibrated=log_p)
    examples.keep(results, model, predictions, examples.data_of(LABELS, NAMES), seed=seed)


def table(results: Path) -> Comparison:
    (found,) = analysis.read(results)
    return found


def expected_gap(comparison: Comparison) -> float:
    """The mean log loss of the first row minus that of the second."""
    first, second = (row.losses for row in comparison.compared)
    assert first is not None
    assert second is not None
    return float(first.mean() - second.mean())


def section(comparison: Comparison, first: str) -> list[dict[str, str]]:
    """The lines of the table whose first column has this name."""
    found = next(one for one in tables_of(comparison) if one[0][0] == first)
    return [dict(zip(found[0], line, strict=True)) for line in found[1:]]


@pytest.fixture
def surer(tmp_path: Path) -> Path:
    """Two models that are right on the same images; one is surer of the true classes."""
    right = some_right(0.8)
    spread = np.random.default_rng(1).uniform(-0.05, 0.05, 240)
    keep(tmp_path, "sure", right, np.where(right, 0.9, 0.3) + spread)
    keep(tmp_path, "unsure", right, np.where(right, 0.7, 0.3) + spread)
    return tmp_path


def test_log_loss_decides_where_accuracy_cannot(surer: Path) -> None:
    found = table(surer)
    (words,) = [line for line in summary_of(found) if line.startswith("By log loss")]
    top, other = (row.name for row in found.compared)
    gap = expected_gap(found)
    assert f"{top} differs significantly from {other} ({gap:+.3f} nats, " in words
    assert found.losses is not None
    expected = compare_losses([row.losses for row in found.compared if row.losses is not None])
    assert found.losses.holm.tolist() == expected.holm.tolist()
    (line,) = section(found, "First")
    assert line["p (Holm)"] == "1.0000"
    assert float(line["Log-loss p (Holm)"]) <= ALPHA
    assert line["Log loss, nats (simultaneous 95 % CI)"].startswith(f"{expected.differences[0, 1]:+.3f} (")


def test_compare_states_the_log_loss(surer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "unsure", "sure", "--results", str(surer)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Log loss: -0." in text
    assert ": a significant difference." in text


def test_without_calibrated_probabilities_nothing_is_said_of_log_loss(tmp_path: Path) -> None:
    for model in ("a", "b"):
        predictions = examples.predictions_of(some_right(0.8), LABELS, classes=3)
        examples.keep(tmp_path, model, predictions, examples.data_of(LABELS, NAMES))
    found = table(tmp_path)
    assert found.losses is None
    assert "og loss, nats" not in markdown_of(found)


def test_a_significant_accuracy_is_not_repeated_by_log_loss(tmp_path: Path) -> None:
    for model, share in (("good", 0.95), ("bad", 0.5)):
        right = some_right(share)
        keep(tmp_path, model, right, np.where(right, 0.9, 0.1))
    assert not [line for line in summary_of(table(tmp_path)) if "log loss" in line.lower()]


def test_probability_of_being_best_is_a_column(surer: Path) -> None:
    right = some_right(0.78, seed=5)
    keep(surer, "third", right, np.where(right, 0.8, 0.2))
    found = table(surer)
    expected = best_probabilities([row.right for row in found.compared if row.right is not None])
    assert list(found.best.values()) == pytest.approx(expected)
    shown = {line["Model"]: line["Probability best"] for line in section(found, "Model") if "Probability best" in line}
    if not shown:
        every = [one for one in tables_of(found) if "Probability best" in one[0]]
        shown = {line[0]: line[1] for line in every[0][1:]}
    assert shown == {row.name: f"{100 * share:.0f} %" for row, share in zip(found.compared, expected, strict=True)}


def test_sources_of_uncertainty_are_stated_for_several_seeds(tmp_path: Path) -> None:
    for seed in range(3):
        for model, share in (("a", 0.85), ("b", 0.8)):
            right = some_right(share, seed=10 * seed + len(model) + (model == "b"))
            keep(tmp_path, model, right, np.where(right, 0.9, 0.1), seed=seed)
    found = table(tmp_path)
    (words,) = [line for line in notes_of(found) if line.startswith("Of the variance")]
    first, second = (row.right for row in found.compared)
    assert first is not None
    assert second is not None
    sources = sources_of(first, second)
    assert sources is not None
    assert f"{100 * sources.images:.0f} % comes from the test images" in words
    assert f"from ±{100 * sources.half_width:.1f} to ±{100 * sources.with_images:.1f} pp" in words


def test_intervals_of_pairs_are_simultaneous(tmp_path: Path) -> None:
    for number, share in enumerate((0.9, 0.85, 0.8)):
        right = some_right(share, seed=number)
        keep(tmp_path, f"m{number}", right, np.where(right, 0.9, 0.1))
    found = table(tmp_path)
    first, second = found.compared[:2]
    assert first.right is not None
    assert second.right is not None
    alone, together = compare_pair(first.right, second.right), found.pair(first, second)
    assert together.interval.low < alone.interval.low < alone.interval.high < together.interval.high
    assert together.p_value == alone.p_value
