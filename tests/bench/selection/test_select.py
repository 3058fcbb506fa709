"""The command select: a real race of tiny networks, its table and page, and what it refuses."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import optuna
import pytest

from bench.cli.arguments import SelectArgs
from bench.cli.main import main
from bench.cli.parsing import parse_runs
from bench.cli.search import select as command
from bench.comparison import analysis
from bench.latency.protocol import QUICK, SCREENING
from bench.leaderboard.selection import rounds_text
from bench.records.schema import RunRecord
from bench.records.store import read_records
from bench.runs import execution
from bench.selection.records import RaceRecord, read_race
from bench.tuning.records import SweepBudget
from bench.tuning.storage import open_storage
from tests.bench.selection.conftest import MODELS
from tests.helpers.commands import bench_here
from tests.helpers.short_race import SHORT

# A race of two networks at two sizes; the third one is for what reads no results.
RACED = ("--candidates", "test_efficientnet", "test_resnet", "--sizes", "32", "48")
RECIPE = ("--recipe", "finetune", "--epochs", "2", "--seeds", "0", "--batch-size", "16", "--no-hflip")
MINUTES = ("--minutes", "5", "--finalists", "2")


def shorten(patch: pytest.MonkeyPatch) -> None:
    """Measure for moments only."""
    patch.setattr("bench.selection.latency.screening.SCREENING", replace(SCREENING, **SHORT))
    patch.setattr("bench.harness.QUICK", replace(QUICK, **SHORT))


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A selection that was carried out, and the trainings whose test images were predicted, in order."""

    results: Path
    flags: tuple[str, ...]
    output: str
    scored_on_test: list[str]

    @property
    def race(self) -> RaceRecord:
        (path,) = (self.results / "selections").glob("*.json")
        return read_race(path)

    @property
    def records(self) -> list[RunRecord]:
        return read_records(self.results)


@pytest.fixture(scope="module")
def finished(weights: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    home = tmp_path_factory.mktemp("select")
    results = home / "results"
    flags = ("--data", str(photos), "--weights", str(weights), *RECIPE, *RACED)
    scored: list[str] = []

    def watched(path: Path, *arguments: object, **options: object) -> object:
        if "test" in arguments:
            scored.append(path.parent.name)
        return predict(path, *arguments, **options)

    predict = execution.predict_split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "predict_split", watched)
        shorten(patch)
        # One seed, whatever time is left: the others are not what is tested here.
        patch.setattr("bench.selection.finals.MAX_SEEDS", 1)
        environment = {"IMGCLS_CACHE": str(home / "cache")}
        patch.setenv("IMGCLS_CACHE", str(home / "cache"))
        status, output = bench_here("select", *flags, *MINUTES, "--results", str(results), environment=environment)
        assert status == 0, output
        yield Finished(results=results, flags=flags, output=output, scored_on_test=scored)


def test_finalists_are_rows_that_name_their_size_and_nothing_else_was_scored_on_test(finished: Finished) -> None:
    race = finished.race
    rows = {(record.config.model, record.config.loader.image_size): record for record in finished.records}

    assert {(finalist.model, finalist.image_size) for finalist in race.selection.finalists} == set(rows)
    assert len(rows) == 2
    assert {record.selection for record in finished.records} == {race.selection}
    assert set(finished.scored_on_test) == {record.train_id for record in finished.records}
    (table,) = analysis.read(finished.results)
    for row in table.ordered:
        assert f"image_size={row.first.config.loader.image_size}" in row.setting
    # No state of a candidate that left lies about.
    assert {path.name for path in (finished.results / "artifacts").iterdir() if not path.name.startswith(".")} == {
        record.train_id for record in finished.records
    }


def test_every_candidate_is_a_finalist_or_has_left_for_a_reason_that_is_counted(finished: Finished) -> None:
    race = finished.race
    reasons = [entrant.left.reason if entrant.left else None for entrant in race.entrants]
    selection = race.selection

    assert len(reasons) == selection.candidates == 4
    assert reasons.count(None) == len(selection.finalists)
    assert reasons.count("budget") == sum(part.by_budget for part in selection.rounds)
    assert reasons.count("significantly worse") == sum(part.worse for part in selection.rounds)
    assert selection.rounds[0].candidates == 4
    assert [part.level for part in selection.rounds] == pytest.approx([0, 0.025, 0.025])


def test_terminal_leaderboard_and_page_state_the_counts_the_minutes_and_what_is_not_known(finished: Finished) -> None:
    race = finished.race.selection
    worse, budget = sum(part.worse for part in race.rounds), sum(part.by_budget for part in race.rounds)
    counts = (
        f"of 4 candidates, 0 left by latency, {worse} as significantly worse, {budget} by budget, 0 failed; 2 finalists"
    )
    page = next((finished.results / "selections").glob("*.html")).read_text()
    board = (finished.results / "leaderboard.md").read_text()

    for text in (" ".join(finished.output.split()), board, page):
        assert counts in text
        assert re.search(r"frozen features of 50 % of train \d+\.\d min \(4 candidates\)", text)
        assert "Probability that a candidate that left by budget" in text or "No candidate left by budget" in text
        assert "Best on val:" in text
        assert "best of 4" not in text
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert str(finished.results) not in page


def test_rounds_in_which_val_is_too_small_for_any_departure_are_named(finished: Finished) -> None:
    race = finished.race.selection
    (_, first, *_) = race.rounds
    assert first.least_groups is not None

    enough, few = (replace(race, val_groups=number) for number in (first.least_groups, first.least_groups - 1))

    assert "could be significantly worse" not in str(rounds_text(enough))
    assert f"{first.name}, as val is too small: {first.least_groups} needed" in str(
        rounds_text(replace(few, rounds=(first,)))
    )


def test_the_command_of_the_page_is_one_that_the_parser_reads(finished: Finished) -> None:
    words = shlex.split(finished.race.command)

    args, configs = parse_runs(SelectArgs, words[4:], "select")

    assert words[:4] == ["python", "-m", "bench", "select"]
    assert (args.sizes, args.finalists, args.minutes) == ((32, 48), 2, 5.0)
    assert {(config.train.epochs, config.train.no_hflip) for config in configs} == {(2, True)}


def test_the_study_can_be_read_by_optuna(finished: Finished) -> None:
    store = open_storage(f"sqlite:///{finished.results / 'sweeps' / 'studies.db'}")
    study = optuna.load_study(study_name=finished.race.selection.name, storage=store)

    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 2
    assert states.count("PRUNED") == 2
    assert study.best_trial.params == {
        "model": finished.race.selection.finalists[0].model,
        "image_size": finished.race.selection.finalists[0].image_size,
    }
    for trial, entrant in zip(study.trials, finished.race.entrants, strict=True):
        assert list(trial.intermediate_values.values()) == [score.val_top1_accuracy for score in entrant.scores]
    store.engine.dispose()


def test_a_finalist_has_the_weights_of_a_training_without_pauses(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = finished.records[0]
    monkeypatch.setenv("IMGCLS_CACHE", str(finished.results.parent / "cache"))
    shorten(monkeypatch)
    size = str(record.config.loader.image_size)
    flags = (*finished.flags[: finished.flags.index("--candidates")], "--image-size", size, "--precision", "fp32")

    status, output = bench_here("run", record.config.model, *flags, "--results", str(tmp_path / "plain"))

    (plain,) = read_records(tmp_path / "plain")
    assert status == 0, output
    assert plain.train_id == record.train_id
    assert plain.finished.artifact.checkpoint_sha256 == record.finished.artifact.checkpoint_sha256
    assert len(record.finished.training.resumed_from) == 2


def test_the_same_command_trains_nothing_again_and_verifies(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(finished.results.parent / "cache"))
    monkeypatch.setattr(execution.fitting, "fit", lambda _plan: pytest.fail("nothing is left to train"))
    monkeypatch.setattr("bench.selection.finals.MAX_SEEDS", 1)
    before = {path: path.read_bytes() for path in (finished.results / "records").rglob("*.json")}
    selected = finished.race.selection

    status, output = bench_here("select", *finished.flags, *MINUTES, "--results", str(finished.results))

    assert status == 0, output
    assert finished.race.selection == selected
    assert {path: path.read_bytes() for path in before} == before
    assert main(["verify", "--results", str(finished.results)]) == 0, capsys.readouterr()


def test_verify_names_a_race_without_its_finalists(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(finished.results / "selections", lone / "selections")

    assert main(["verify", "--results", str(lone)]) == 1

    assert "no run of the finalist" in capsys.readouterr().out


def test_tuning_adds_a_row_of_the_best_finalist(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMGCLS_CACHE", str(finished.results.parent / "cache"))
    monkeypatch.setattr("bench.selection.finals.MAX_SEEDS", 1)
    shorten(monkeypatch)
    # Two trials, in place of the minutes that are left.
    monkeypatch.setattr(command, "SweepBudget", lambda minutes: SweepBudget(trials=2 if minutes > 0 else None))
    flags = [
        *finished.flags[: finished.flags.index("--candidates")],
        "--candidates",
        "test_resnet",
        "test_efficientnet",
    ]
    results = tmp_path / "tuned"

    status, output = bench_here(
        "select", *flags, "--image-size", "32", "--minutes", "4", "--finalists", "1", "--tune", "--space", "lr",
        "--results", str(results),
    )  # fmt: skip

    assert status == 0, output
    records = read_records(results)
    (tuned,) = [record for record in records if record.tuning is not None]
    (base,) = [record for record in records if record.tuning is None]
    assert tuned.derived_from == (base.run_id,)
    assert len(analysis.read(results)) == 1  # one table
    assert "tuned" in (results / "leaderboard.md").read_text()


def test_a_dry_run_prints_each_candidate_with_its_estimate_and_writes_nothing(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = {"start_s": 1.0, "step_s": (0.5, 0.5, 0.5), "eval_image_s": 0.01, "head_image_s": 0.01, "finish_s": 2.0}
    probe |= {"memory_bytes": 10**9, "disk_bytes": 10**6, "state_bytes": 10**6, "others_share": 0.0}

    def launch(_command: object, receive: object, **_options: object) -> int:
        receive(json.dumps(probe).encode())  # type: ignore[operator]
        return 0

    monkeypatch.setattr("bench.estimates.estimating.launch", launch)
    results = tmp_path / "results"
    flags = ("--data", str(photos), "--weights", str(weights), *RECIPE, "--sizes", "32", "48")

    status, output = bench_here(
        "select", *flags, "--dry-run", "--results", str(results), environment={"COLUMNS": "120"}
    )

    assert status == 0, output
    for name in MODELS:
        assert name in output
    assert output.count("image_size=48") == 3
    assert "all: " in output
    assert not (results / "records").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--minutes", "0.1"],
            "--minutes 0.1: too few for a first round of all candidates and one finalist",
        ),
        (["--minutes", "nan"], "--minutes is nan"),
        (["--finalists", "0"], "--finalists is 0; use 1 to 5"),
        (["--candidates", "no_such_*"], "--candidates no_such_*: matches none of timm's"),
        (["--candidates", "test_vit", "--sizes", "32"], "--candidates: a selection needs two or more"),
        (["--runtime", "onnxruntime-cpu-int8"], "--runtime onnxruntime-cpu-int8: untrained networks"),
        (["--max-latency-ms", "0"], "--max-latency-ms is 0"),
        (["--folds", "5"], "--folds 5: not with select"),
        (["--seeds", "0", "1"], "--seeds 0 1: not with select"),
        (["--budget", "minutes=3"], "--budget minutes=3: not with select"),
        (["--tune-layers", "head"], "--tune-layers head: not with select"),
        (["--weights", "none"], "--weights none: not with select"),
        (["--recipe", "report"], "--recipe report: not with select"),
        (["--image-size", "48", "--sizes", "32", "48"], "--image-size: not with select"),
        (["--tune", "--launcher", "ray"], "--tune: not with select"),
        (["--force-new"], "--force-new: not with select"),
        (["--candidates", "resnet18", "test_vit"], "no resnet18/config.json there"),
    ],
)
def test_wrong_flags_are_refused_in_one_line_before_anything_is_written(  # noqa: PLR0913, PLR0917 - fixtures
    flags: list[str],
    says: str,
    weights: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    given = ["--data", str(photos), "--weights", str(weights), *RECIPE[:2]]

    status = main(["select", *given, *flags, "--results", str(results)])

    error = capsys.readouterr().err
    assert status == 2, error
    assert says in error
    assert error.count("\n") == 1
    assert not results.exists()


def test_val_with_too_few_images_is_refused_with_what_it_can_tell(
    weights: Path, tmp_path: Path, make_folder: object, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder({"cat": 20, "dog": 20})  # type: ignore[operator]
    results = tmp_path / "results"

    status = main(
        ["select", "--data", str(root), "--weights", str(weights), *RECIPE, "--sizes", "32", "--results", str(results)]
    )

    error = capsys.readouterr().err
    assert status == 2, error
    assert "val has 4 independent images, of which one is 25 pp" in error
    assert not results.exists()


def test_models_without_pretrained_weights_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgcls.models.registry.why_unreachable", lambda: "no network")
    flags = ["--data", str(photos), *RECIPE, "--candidates", "resnet18", "test_vit", "--sizes", "32"]

    assert main(["select", *flags, "--results", str(tmp_path / "results")]) == 2

    assert "--weights: no pre-trained weights of resnet18, test_vit" in capsys.readouterr().err


def test_a_record_without_a_race_is_read_as_before(finished: Finished) -> None:
    record = finished.records[0]
    content = msgspec.to_builtins(replace(record, selection=None))
    content.pop("selection")

    assert msgspec.convert(content, RunRecord).selection is None
