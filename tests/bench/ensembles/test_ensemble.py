"""The command ``ensemble`` on finished runs: one network, one row, and what it refuses."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

from bench import run_all
from bench.cli.main import main
from bench.comparison import analysis
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import read_records
from imgcls.evaluation.predictions import Predictions, load_predictions, predictions_file
from imgcls.inference.runtimes import ONNX
from tests.helpers import documents
from tests.helpers.commands import without_processes
from tests.helpers.images import smooth_image

MODELS = ("test_byobnet", "test_efficientnet")
SETTING = {"epochs": 1, "image_size": 64, "runtimes": ("onnxruntime-cpu",)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The results of two models with two seeds, in a folder that no test changes."""
    home = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch, without_processes():
        patch.setenv("IMGCLS_CACHE", str(home / "cache"))
        for label, name in enumerate(("cat", "dog")):
            (home / "pets" / name).mkdir(parents=True)
            for number in range(30):
                smooth_image(100 * label + number).save(home / "pets" / name / f"{number}.png")
        common = {"data": home / "pets", "weights": "none", "recipe": "quick", "results": home / "results"}
        run_all(MODELS, seeds=(0, 1), **common, **SETTING)
        run_all(["test_byobnet"], **common, **(SETTING | {"epochs": 2}))
        run_all(["test_efficientnet"], **common, **(SETTING | {"crop": True}))
        yield home


@pytest.fixture
def results(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("IMGCLS_CACHE", str(trained / "cache"))
    with without_processes():
        yield Path(shutil.copytree(trained / "results", tmp_path / "results"))


def ensembles(results: Path) -> list[RunRecord]:
    return sorted((record for record in read_records(results) if record.ensemble), key=lambda one: one.config.seed)


def predictions_of(record: RunRecord | str, results: Path, split: str) -> Predictions:
    train_id = record if isinstance(record, str) else record.train_id
    return load_predictions(predictions_file(Paths(results=results).artifacts(train_id), split))


def table_of(results: Path) -> str:
    """The table with both models."""
    (found,) = [one for one in analysis.read(results) if len(one.table.rows) == 2]
    return found.table.key.id


def test_ensemble_is_a_network_and_a_row(
    results: Path, trained: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["ensemble", *MODELS, "--table", table_of(results), "--results", str(results)]) == 0
    printed = capfd.readouterr().out
    assert "against its best member, test_" in printed
    first, second = ensembles(results)
    assert (first.config.seed, second.config.seed) == (0, 1)
    assert first.ensemble is not None
    assert first.ensemble.rule == "fitted"
    assert sorted(first.ensemble.candidates) == sorted(MODELS)
    assert first.derived_from == tuple(member.run_id for member in first.ensemble.members)
    members = [(predictions_of(member.train_id, results, "test"), member.weight) for member in first.ensemble.members]
    mean = sum(weight * softmax(one.logits.astype(np.float64), axis=1) for one, weight in members)
    assert np.exp(predictions_of(first, results, "test").logits) == pytest.approx(mean, abs=1e-6)
    assert first.outcome is not None
    # The exported network, whose members read differently normalised images, gives the same.
    assert first.outcome.artifact.parity.top1_agreement == 1
    assert first.outcome.artifact.parity.max_rel_logit_error < 1e-3
    known = {record.run_id: record.outcome for record in read_records(results)}
    costs = [outcome for member in first.derived_from if (outcome := known[member])]
    assert first.outcome.training.train_time_s == pytest.approx(sum(one.training.train_time_s for one in costs))
    assert first.outcome.model.num_params == sum(one.model.num_params for one in costs)
    assert first.outcome.model.gmacs == pytest.approx(sum(one.model.gmacs for one in costs), rel=1e-3)
    assert [row.runtime for row in first.measurements if row.samples_ms]
    found = next(one for one in analysis.read(results) if len(one.table.rows) == 3)
    (row,) = [row for row in found.table.rows if row.first.ensemble]
    assert row.setting == ("fitted", "test_byobnet + test_efficientnet")
    assert len(row.checkpoints) == 2
    text = documents.markdown_of(found)
    assert "<summary>Diversity</summary>" in text
    monkeypatch.chdir(results)
    file = Paths(results=results).artifacts(first.train_id) / ONNX
    assert main(["predict", str(file), str(trained / "pets" / "cat"), "--json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(lines) == 30


def test_done_ensemble_is_not_made_again(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["ensemble", "--greedy", "--table", table_of(results), "--results", str(results)]
    assert main(words) == 0
    before = ensembles(results)
    capsys.readouterr()
    # Its row is no candidate of the next one.
    assert main(["ensemble", "--greedy", "--table", largest(results), "--results", str(results)]) == 0
    assert "already done" in capsys.readouterr().out
    assert ensembles(results) == before


def test_order_of_the_names_makes_no_other_ensemble(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--rule", "soft", "--table", largest(results), "--results", str(results)]
    assert main(["ensemble", *MODELS, *options]) == 0
    before = ensembles(results)
    capsys.readouterr()
    assert main(["ensemble", *reversed(MODELS), *options]) == 0
    assert "already done" in capsys.readouterr().out
    assert ensembles(results) == before


def test_rows_of_two_rules_are_distinct(results: Path) -> None:
    for rule in ("soft", "fitted", "greedy"):
        assert main(["ensemble", *MODELS, "--table", largest(results), "--rule", rule, "--results", str(results)]) == 0
    found = max(analysis.read(results), key=lambda one: len(one.table.rows))
    assert sorted(row.setting[0] for row in found.table.rows if row.first.ensemble) == ["fitted", "greedy", "soft"]
    assert len({row.name for row in found.table.rows}) == 5


def largest(results: Path) -> str:
    return max(analysis.read(results), key=lambda one: len(one.table.rows)).table.key.id


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["test_byobnet", "--table", "both"], "1 row with a score and no ensemble; it needs two or more"),
        (["test_byobnet", "test_byobnet", "--table", "both"], "needs two or more"),
        ([], "the results hold 3 tables"),
        (["test_byobnet", "alexnet"], "unknown row or run 'alexnet'; available rows: "),
        ([*MODELS, "--rule", "vote", "--table", "both"], "--rule vote: unknown; known: soft, fitted, greedy"),
        (["other", "crop"], "are not in one table: data, split or budget differ"),
    ],
)
def test_unsuitable_members_are_refused(
    words: list[str], says: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = analysis.read(results)
    ids = {"both": table_of(results)}
    for one in tables:
        name = "crop" if one.table.key.budget.crop else "other" if one.table.key.budget.amount == 2 else ""
        ids |= {name: one.table.rows[0].row_id} if name else {}
    capsys.readouterr()
    assert main(["ensemble", *(ids.get(word, word) for word in words), "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not ensembles(results)


def test_missing_artifacts_are_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = table_of(results)
    shutil.rmtree(results / "artifacts")
    assert main(["ensemble", *MODELS, "--table", table, "--results", str(results)]) == 2
    error = capsys.readouterr().err
    assert re.search(r"the artifacts of test_(byobnet|efficientnet), seed 0, are not in this results folder", error)
