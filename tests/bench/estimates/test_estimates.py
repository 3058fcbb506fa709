"""Estimates of runs: their arithmetic, what is probed, and a real probe."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import harness
from bench.cli.main import main
from bench.config import with_overrides
from bench.estimates.estimating import estimate, probe_here, seconds_of
from bench.estimates.probing import STEPS, Probed, probe
from bench.recipes import RECIPES
from bench.records.store import read_records
from bench.runs.plan import Task
from imgcls.errors import ParityError
from imgcls.inference import export
from tests.helpers.commands import without_processes
from tests.helpers.images import MakeFolder

MODEL = "test_efficientnet"
PROBED = Probed(
    start_s=5.0,
    step_s=(1.0, 1.0, 2.0, 3.0, 3.0),
    eval_image_s=0.1,
    head_image_s=0.5,
    finish_s=7.0,
    memory_bytes=10**9,
    disk_bytes=10**6,
    state_bytes=10**6,
    others_share=0.02,
)


def tasks(make_folder: MakeFolder, results: Path, *overrides: dict[str, object], seeds: int = 1) -> list[Task]:
    """Of 80 train, 10 val and 10 test images: 10 steps an epoch."""
    data = str(make_folder({"cat": 60, "dog": 40}))
    # Not the precision "auto", which is measured in a process of its own: seconds for each test.
    base = {"batch_size": 8, "image_size": 32, "epochs": 3, "runtimes": (), "precision": "fp32"}
    configs = [with_overrides(RECIPES["standard"](MODEL), base | one) for one in overrides or ({},)]
    configs = [replace(config, seed=seed) for config in configs for seed in range(seeds)]
    plan = harness.planner(configs, data=data, weights="none", results=results)
    planned = [plan(config) for config in configs]
    return [
        replace(one, config=replace(one.config, runtime=replace(one.config.runtime, runtimes=()))) for one in planned
    ]


def test_run_is_the_sum_of_its_parts(make_folder: MakeFolder, tmp_path: Path) -> None:
    (task,) = tasks(make_folder, tmp_path / "results")
    counts = {name: sum(each) for name, each in task.dataset.counts.items()}
    assert counts == {"train": 80, "val": 10, "test": 10}
    # 30 steps; val in 3 epochs and twice more, test three times.
    assert seconds_of(task, PROBED, step_s=2.0) == pytest.approx(5 + 7 + 60 + 0.1 * (5 * 10 + 30) + 0.5 * 80)


@pytest.mark.parametrize(
    ("overrides", "training_s"),
    [
        ({"imbalance": "undersample"}, 3 * 8 * 2.0 + 0.5 * 64),  # 32 of each class
        ({"budget": "minutes=2"}, 120),
        # The fit of the classifier alone takes longer.
        ({"budget": "minutes=0.1"}, 6),
        ({"budget": "images=160"}, 2 * 10 * 2.0 + 0.5 * 80),
        ({"imbalance": "post-hoc"}, 0.0),
    ],
)
def test_training_follows_its_budget(
    overrides: dict[str, str], training_s: float, make_folder: MakeFolder, tmp_path: Path
) -> None:
    base = {"precision": "fp32"} | ({"epochs": 3} if "budget" not in overrides else {})
    data = str(make_folder({"cat": 60, "dog": 40}))
    config = with_overrides(RECIPES["standard"](MODEL), {"batch_size": 8, "image_size": 32, **base, **overrides})
    task = harness.planner([config], data=data, weights="none", results=tmp_path)(config)
    task = replace(task, config=replace(task.config, runtime=replace(task.config.runtime, runtimes=())))
    whole = seconds_of(task, PROBED, step_s=2.0)
    without = seconds_of(task, replace(PROBED, eval_image_s=0.0), step_s=2.0)
    assert without - 12 == pytest.approx(training_s)
    assert whole > without


def test_seeds_are_probed_once_and_settings_apart(make_folder: MakeFolder, tmp_path: Path) -> None:
    seen = []

    def probe(task: Task) -> Probed:
        seen.append(task.config.train.epochs)
        return PROBED

    found = estimate(tasks(make_folder, tmp_path / "results", {}, {"epochs": 5}, seeds=3), probe)
    assert seen == [3, 5]
    assert [one.runs for one in found] == [3, 3]
    assert all(one.least_s < one.seconds < one.most_s for one in found)
    assert [(one.step_s, one.others_share) for one in found] == [(2.0, 0.02)] * 2


def test_failed_probe_is_an_estimate_with_its_reason(make_folder: MakeFolder, tmp_path: Path) -> None:
    (found,) = estimate(tasks(make_folder, tmp_path / "results"), lambda _task: "out of memory")
    assert (found.error, found.seconds) == ("out of memory", 0.0)


def test_probe_trains_exports_and_leaves_nothing(make_folder: MakeFolder, tmp_path: Path) -> None:
    (task,) = tasks(make_folder, tmp_path / "results")
    found = probe_here(task)
    assert isinstance(found, Probed)
    assert len(found.step_s) == STEPS * 3 // 4
    assert min(found.step_s) > 0
    assert found.eval_image_s > 0
    assert found.start_s > 0
    assert found.finish_s > 0
    assert found.memory_bytes > 10**7
    assert found.disk_bytes > 10**5
    assert found.state_bytes > 0
    assert not (tmp_path / "results" / "artifacts").exists()
    assert read_records(tmp_path / "results") == []


def test_probe_whose_exported_file_differs_is_an_estimate(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After few steps on random images a deep network may give no more than rounding errors."""
    (task,) = tasks(make_folder, tmp_path / "results")
    whole = probe(task, tmp_path / "whole")

    def differs(*_: object, **__: object) -> None:
        message = "the logits differ"
        raise ParityError(message)

    monkeypatch.setattr(export, "check_parity", differs)
    found = probe(task, tmp_path / "differs")
    assert len(found.step_s) == len(whole.step_s)
    assert found.finish_s > 0
    assert found.disk_bytes == pytest.approx(whole.disk_bytes, rel=0.3)


def test_one_run_of_a_network_is_measured(make_folder: MakeFolder, tmp_path: Path) -> None:
    two = [
        replace(one, config=replace(one.config, runtime=replace(one.config.runtime, runtimes=("a", "b"))))
        for one in tasks(make_folder, tmp_path / "results", seeds=2)
    ]
    (found,) = estimate(two, lambda _task: PROBED)
    (single,) = estimate(two[:1], lambda _task: PROBED)
    assert found.measure_s == single.measure_s > 0
    other = replace(two[0], config=replace(two[0].config, train=replace(two[0].config.train, lr=0.1)))
    assert [one.measure_s for one in estimate([*two, other], lambda _task: PROBED)] == [found.measure_s, 0.0]


def test_command_prints_the_cost_of_the_grid_and_skips_what_is_done(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, results = str(make_folder({"cat": 30, "dog": 30})), str(tmp_path / "results")
    flags = ["--models", MODEL, "--data", data, "--recipe", "quick", "--epochs", "1", "--weights", "none"]
    flags += ["--runtimes", "onnxruntime-cpu", "--results", results]
    with without_processes():
        assert main(["run-all", *flags]) == 0
    capsys.readouterr()
    assert main(["plan", *flags, "--seeds", "0", "1"]) == 0
    printed = capsys.readouterr().out
    assert "1 (1 done)" in printed
    assert "all: " in printed
    assert " minutes (" in printed
    assert "Other processes used up to " in printed


def test_studies_are_not_estimated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--tune-trials", "3", "--results", str(tmp_path / "results")]) == 2
    assert "plan: estimates the runs of this machine, not studies" in capsys.readouterr().err
