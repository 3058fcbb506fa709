"""Finished studies: selection for a tuned run, the study's page, and tuned rows of the leaderboard."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.comparison import analysis
from bench.comparison.results.conditions import accuracy_of
from bench.config import RunConfig
from bench.leaderboard.cells import per_cent
from bench.recipes import RECIPES
from bench.records.schema import DatasetInfo, RunRecord
from bench.render.markdown import markdown
from bench.tuning.pages import document, plots
from bench.tuning.records import (
    ADDED,
    Origin,
    StudyRecord,
    SweepBudget,
    TrialRecord,
    identity,
    read_study,
    study_file,
    tuned_by,
    write_study,
)
from bench.tuning.search import spent
from bench.tuning.space import DEFAULT_SPACE, apply, parse_space
from bench.tuning.view import StudyProgress, left_s
from imgcls.errors import ConfigError
from tests.helpers import examples
from tests.helpers.documents import csv_of, markdown_of, tables_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
BASE = replace(RECIPES["standard"]("resnet50"), dataset="pets")
ORIGIN: Origin = ("resnet50.a1_in1k", "random", None)


def trial(number: int, score: float | None, **changes: Any) -> TrialRecord:
    values: dict[str, Any] = {
        "number": number,
        "state": "complete" if score is not None else "pruned",
        "is_default": number == 0,
        "hyperparameters": {"lr": 10 ** (-2 - number / 10), "dropout": 0.1 * (number % 5), "epochs": 1 + number % 10},
        "val_top1_accuracy": score,
        "fraction": 1.0 if score is not None else 0.25,
        "reason": None if score is not None else "behind others | at the same share",
        "gone": False,
        "retry_of": None,
        "tmacs": 4.0 if score is not None else 1.0,
        "planned_tmacs": 4.0,
        "train_time_s": 30.0,
        "trial_time_s": 40.0,
    }
    return TrialRecord(**(values | changes))


def study(**changes: Any) -> StudyRecord:
    values: dict[str, Any] = {
        "sweep_version": 2,
        "name": "resnet50-pets-standard",
        "base": BASE,
        "space": parse_space(DEFAULT_SPACE, BASE),
        "budget": SweepBudget(trials=5),
        "dataset": examples.dataset(),
        "environment": examples.ENVIRONMENT,
        "origin": ORIGIN,
        "rungs": (0.25, 0.5),
        "trials": (trial(0, 0.6), trial(1, 0.7), trial(2, None), trial(3, 0.8), trial(4, 0.8)),
        "jobs": 1,
        "command_s": 200.0,
        "command_train_s": 150.0,
    }
    return StudyRecord(**(values | changes))


def find(
    results: Path, base: RunConfig = BASE, info: DatasetInfo | None = None, origin: Origin = ORIGIN
) -> StudyRecord:
    return tuned_by(results, base, info or examples.dataset(), origin)


def test_best_trial_is_the_first_of_the_highest(tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    found = find(tmp_path)
    assert found == study()
    assert found.best is not None
    assert found.best.number == 3
    assert found.tuned_config == apply(BASE, found.best.hyperparameters)


def test_best_of_several_studies_is_used(tmp_path: Path) -> None:
    narrow = parse_space(["lr"], BASE)
    for number, score in (("", 0.7), ("-2", 0.9), ("-10", 0.8)):
        name = f"resnet50-pets-standard{number}"
        write_study(study(name=name, space=narrow, trials=(trial(0, 0.6), trial(1, score))), tmp_path)
    assert find(tmp_path).name == "resnet50-pets-standard-2"


def test_default_is_used_without_improvement() -> None:
    assert study(trials=(trial(0, 0.9), trial(1, 0.9))).tuned_config == BASE


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"info": replace(examples.dataset(), digest="0" * 16)}, "differs in data set"),
        ({"info": replace(examples.dataset(), split_digest="0" * 16)}, "differs in split"),
        ({"origin": ("resnet50.a1_in1k", "pretrained", "ab")}, "differs in weights"),
        ({"base": replace(BASE, train=replace(BASE.train, epochs=3))}, "differs in settings"),
        ({"base": replace(BASE, model="efficientnet_b0")}, "no finished study of efficientnet_b0 on pets"),
    ],
)
def test_unsuitable_study_is_refused(wanted: dict[str, Any], says: str, tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    with pytest.raises(ConfigError, match=says):
        find(tmp_path, **wanted)


def test_unreadable_study_is_refused(tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    path = study_file(tmp_path, "resnet50-pets-standard")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"sweep_version": 99}))
    with pytest.raises(ConfigError, match="sweep version 99; this code reads versions 1 to 2"):
        find(tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(ConfigError, match="not a complete record"):
        find(tmp_path)


def test_old_study_is_written_as_new_version(tmp_path: Path) -> None:
    old = read_study(FIXTURES / "studies" / "v1.json")
    assert old.sweep_version == 1
    write_study(old, tmp_path)
    assert read_study(study_file(tmp_path, old.name)) == replace(old, sweep_version=2)


def test_study_without_a_result_is_refused(tmp_path: Path) -> None:
    write_study(study(trials=(trial(0, None), trial(1, None))), tmp_path)
    with pytest.raises(ConfigError, match="no trial finished"):
        find(tmp_path)


def test_study_ignores_seed_device_and_threads(tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    train = replace(BASE.train, train_threads=7, device="cuda")
    assert find(tmp_path, replace(BASE, train=train, seed=5)) == study()


def test_command_to_train_again_names_the_data_and_weights_that_were_given() -> None:
    named = document.rerun_command(study())
    assert "--data pets " in named
    given = document.rerun_command(study(), data="my photos/x", labels="l.csv", weights="w/own")
    assert "--data 'my photos/x' --labels l.csv " in given
    assert given.endswith("--weights w/own")
    # As the search was: whatever "auto" stood for.
    assert document.rerun_command(study(), data="pets", weights="auto") == named


def page_of(record: StudyRecord) -> str:
    return markdown(document.document(record, plots.as_study(record)))


def accuracy(share: float, images: int) -> str:
    return str(per_cent(accuracy_of(share, images)))


def test_page_shows_result_cost_and_command(tmp_path: Path) -> None:
    document.write(study(), tmp_path)
    page = (tmp_path / "sweeps" / "resnet50-pets-standard.md").read_text()
    assert "- Best: trial 3, " in page
    assert f"{accuracy(0.8, 21)} % on 21 val images" in page
    assert f"The default setting, trial 0: {accuracy(0.6, 21)} %" in page
    assert "optimistically biased by the selection" in page
    assert "behind others \\| at the same share" in page
    assert "5 trials (4 finished, 1 pruned, 0 failed)" in page
    assert "Pruning saved 3.00 TMACs, 15 % of the compute" in page
    assert "75 % of that time was spent in training steps" in page
    assert "--schedule cosine --select last --weights none" in page
    for kind in ("history", "parallel", "slice"):
        assert f"resnet50-pets-standard-{kind}.png" in page
        assert (tmp_path / "sweeps" / f"resnet50-pets-standard-{kind}.png").stat().st_size > 5_000


def test_importances_of_few_trials_are_qualified() -> None:
    few = study()
    assert "a weak basis" in page_of(few)
    many = study(trials=tuple(trial(number, 0.5 + number / 100) for number in range(12)))
    assert "a weak basis" not in page_of(many)
    equal = study(trials=(trial(0, 0.5), trial(1, 0.5)))
    assert "no two finished trials differ in score (finished: 2)" in page_of(equal)


def test_most_important_hyperparameter_is_found() -> None:
    def scored(number: int) -> TrialRecord:
        lr = 1e-5 * 1.4**number
        values = {"lr": lr, "dropout": (number * 7 % 10) / 15, "epochs": 1 + number * 3 % 10}
        return trial(number, min(0.9, 100 * lr), hyperparameters=values)

    shares = plots.importances(plots.as_study(study(trials=tuple(map(scored, range(20))))))
    assert max(shares, key=lambda name: shares[name]) == "lr"
    assert sum(shares.values()) == pytest.approx(1)


def test_page_of_a_study_without_a_result(tmp_path: Path) -> None:
    nothing = study(trials=(trial(0, None, state="failed", reason="OSError: full"),))
    document.write(nothing, tmp_path)
    page = (tmp_path / "sweeps" / "resnet50-pets-standard.md").read_text()
    assert "there is no tuned setting" in page
    assert "OSError: full" in page
    assert "python -m bench run" not in page


def pair() -> tuple[RunRecord, RunRecord]:
    default = examples.record(accuracy=0.6, config=BASE, run_id="1" * 16)
    tuned = examples.record(accuracy=0.5, config=study().tuned_config, run_id="2" * 16, tuning=study().tuning())
    return default, tuned


def test_default_and_tuned_rows_share_a_table() -> None:
    (table,) = analysis.compare_records(pair(), Path("/nowhere"))
    assert len(table.table.records) == 2
    text = markdown_of(table)
    assert "| `resnet50 (tuned)` |" in text
    (line,) = [line for line in text.splitlines() if "sweeps/resnet50-pets-standard.md" in line]
    assert "5 (1, 0)" in line
    assert "17.00" in line
    assert line.index(accuracy(13 / 21, 21)) < line.index(accuracy(11 / 21, 21))
    assert "resnet50-pets-standard" in csv_of(table)


def test_tuned_row_without_its_default() -> None:
    _, tuned = pair()
    other = examples.record(accuracy=0.9, config=replace(BASE, model="vgg16"), run_id="3" * 16)
    (table,) = analysis.compare_records([tuned, other], Path("/nowhere"))
    ((header, row),) = [found for found in tables_of(table) if found[0][0] == "Tuned"]
    shown = dict(zip(header, row, strict=True))
    assert shown["Test top-1, tuned"] == accuracy(11 / 21, 21)
    assert shown.get("Test top-1, default", "-") == "-"


def test_progress_on_a_terminal_and_in_a_file() -> None:
    trials = [trial(0, 0.5), trial(1, None), trial(2, None, state="running", reason=None)]
    progress = StudyProgress(
        name="resnet50-pets-standard", budget=SweepBudget(trials=6), trials=tuple(trials), jobs=1, new=(1,)
    )
    console = Console(file=io.StringIO(), width=160)
    console.print(progress.__rich__())
    table = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "lr 0.01, dropout 0, epochs 1" in table
    for text in (str(progress), table):
        assert "best so far 50.00 % (trial 0)" in text
        assert "left" in text
    assert "running" in table
    assert str(progress).strip().startswith("trial 1:")
    assert "trial 0:" not in str(progress)


def test_page_names_every_machine() -> None:
    joined = study(trials=(trial(0, 0.5, machine="a-cpu"), trial(1, 0.6, machine="b-gpu")))
    assert "- Machine: a-cpu, b-gpu;" in page_of(joined)


def test_running_trial_is_charged_in_full() -> None:
    running = trial(1, None, state="running", reason=None, tmacs=1.0, planned_tmacs=4.0)
    assert spent(SweepBudget(tmacs=8.0), [trial(0, 0.5), running])
    assert not spent(SweepBudget(tmacs=8.1), [trial(0, 0.5), running])
    assert not spent(SweepBudget(tmacs=8.0), [trial(0, 0.5), trial(1, None)])


def test_time_left_follows_completed_trials() -> None:
    ended = [trial(0, 0.5), trial(1, None)]
    assert left_s(SweepBudget(trials=6), ended, 1) == pytest.approx(160)
    assert left_s(SweepBudget(trials=6), ended, 2) == pytest.approx(80)
    assert left_s(SweepBudget(tmacs=10.0), ended, 1) == pytest.approx(80)
    assert left_s(SweepBudget(trials=6), [], 1) is None


def test_identity_of_a_study_is_that_of_older_versions() -> None:
    """New fields of the config are part of it only where they differ from their default; the precision never is."""

    def found(**train: Any) -> dict[str, Any]:
        base = replace(BASE, train=replace(BASE.train, **train))
        return identity(base, parse_space(["lr"], BASE), examples.dataset(), ("resnet50.a1_in1k", "random", None))

    _, _, *parts = found()["settings"]
    assert not ADDED & {name for part in parts for name in part}
    assert found(precision="bf16") == found()
    assert found(schedule="cosine", warmup=0.1)["settings"][-1]["warmup"] == 0.1
