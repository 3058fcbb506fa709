"""Learning curves: what the last doubling of train has gained, in sentences and by the command."""

from pathlib import Path

import pytest

from bench.cli.main import main
from bench.comparison import analysis
from bench.comparison.decisions.doubling import learning_curve
from bench.config import with_overrides
from bench.leaderboard.advice import photos_advice
from bench.recipes import RECIPES
from bench.records.store import read_records
from tests.helpers.boards import keep, some_right
from tests.helpers.commands import without_processes
from tests.helpers.images import MakeFolder


def kept(results: Path, accuracies: dict[float, float]) -> list[str]:
    """Return the advice for rows of shares of train with these accuracies on 250 images."""
    runs = {}
    for share, accuracy in accuracies.items():
        config = with_overrides(RECIPES["quick"]("a"), {"train_share": share})
        runs[share] = {keep(results, "a", some_right(accuracy, seed=round(100 * share)), config=config).run_id}
    return [str(line) for line in photos_advice(learning_curve(runs, analysis.read(results)))]


def test_a_gain_of_the_last_doubling_is_advice_for_more_photos(tmp_path: Path) -> None:
    *shares, last = kept(tmp_path, {0.25: 0.5, 0.5: 0.6, 1.0: 0.9})
    assert [line.partition(":")[0] for line in shares] == ["25 % of train", "50 % of train", "100 % of train"]
    assert last.startswith("From half of train to all of it: +")
    assert last.endswith("more photos are likely to help.")


def test_an_insignificant_gain_is_stated_with_what_could_have_been_detected(tmp_path: Path) -> None:
    last = kept(tmp_path, {0.25: 0.5, 0.5: 0.79, 1.0: 0.8})[-1]
    assert "no evidence that more photos would help. Minimum detectable difference at 80 % power:" in last


def test_a_missing_share_gives_no_verdict(tmp_path: Path) -> None:
    assert kept(tmp_path, {0.25: 0.5, 1.0: 0.9})[-1].startswith("Not every share has a score")


def test_command_trains_each_share_on_the_same_split(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, results = str(make_folder({"cat": 40, "dog": 40})), tmp_path / "results"
    flags = ["--data", data, "--recipe", "quick", "--weights", "none", "--image-size", "32", "--epochs", "1"]
    flags += ["--runtimes", "onnxruntime-cpu", "--results", str(results)]
    with without_processes():
        assert main(["learning-curve", "test_efficientnet", *flags, "--seeds", "0"]) == 0
    assert "From half of train to all of it" in capsys.readouterr().out
    found = {record.config.train.train_share: record for record in read_records(results)}
    assert sorted(found) == [0.25, 0.5, 1.0]
    assert len({record.dataset.split_digest for record in found.values()}) == 1
    images = {share: record.outcome.training.history[0].images for share, record in found.items() if record.outcome}
    assert images == {0.25: 16, 0.5: 32, 1.0: 64}
    (comparison,) = analysis.read(results)
    assert {row.setting[0] for row in comparison.compared} == {"weights=random", "train_share=0.25", "train_share=0.5"}
    assert main(["learning-curve", "test_efficientnet", *flags, "--train-share", "0.5"]) == 2
    assert "--train-share 0.5: not with learning-curve" in capsys.readouterr().err
