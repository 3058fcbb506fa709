"""The real sweep command: killed and resumed, started twice, and used by run-all."""

from dataclasses import replace
from pathlib import Path

import optuna
import psutil
import pytest

from bench.cli.main import main
from bench.records.store import read_records
from bench.tuning.conversion import records
from bench.tuning.records import TrialRecord, read_study, study_file
from bench.tuning.storage import default_url, open_storage, quiet
from tests.helpers.commands import bench_here, kill, start
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

TINY = ("--recipe", "quick", "--weights", "none", "--image-size", "32")


def trials_of(results: Path, name: str) -> list[TrialRecord]:
    quiet()
    return records(optuna.load_study(study_name=name, storage=open_storage(default_url(results))))


def is_worker(process: psutil.Process) -> bool:
    try:
        return "bench.tuning.worker" in process.cmdline()
    except psutil.Error:
        return False


def wait_for_worker(command: int, *, not_pid: int = 0) -> psutil.Process:
    """Wait until the command has a worker process."""

    def workers() -> list[psutil.Process]:
        return [child for child in psutil.Process(command).children() if is_worker(child) and child.pid != not_pid]

    return until(workers, what="a worker of the sweep")[0]


def wait_for_running(results: Path, name: str, *, more_than: int) -> None:
    """Wait until a trial with a number above ``more_than`` is running."""

    def running() -> bool:
        if not study_db(results).exists():
            return False
        trials = [trial for trial in trials_of(results, name) if trial.state == "running"]
        return bool(trials) and trials[-1].number > more_than and bool(trials[-1].planned_tmacs)

    until(running, what=f"a running trial after number {more_than}", every_s=0.3)


def study_db(results: Path) -> Path:
    return results / "sweeps" / "studies.db"


def test_kills_do_not_change_the_trial_count(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, results = make_folder({"cat": 40, "dog": 40}), tmp_path / "results"
    flags = ("sweep", "test_efficientnet", "--data", str(root), *TINY, "--epochs", "60", "--results", str(results))
    command = (*flags, "--space", "lr", "dropout", "--trials", "5")
    name = "test_efficientnet-pets-quick"
    process = start(*command)
    worker = wait_for_worker(process.pid)
    wait_for_running(results, name, more_than=-1)
    worker.kill()  # as the kernel does when memory runs out
    wait_for_worker(process.pid, not_pid=worker.pid)
    wait_for_running(results, name, more_than=0)
    kill(process)
    status, output = bench_here(*command)
    assert status == 0, output
    trials = trials_of(results, name)
    assert sum(trial.state in {"complete", "pruned"} for trial in trials) == 5
    gone = [trial for trial in trials if trial.gone]
    assert {trial.number for trial in gone} == {trial.retry_of for trial in trials if trial.retry_of is not None}
    assert len(gone) == 2
    assert len({tuple(trial.hyperparameters.values()) for trial in trials if trial.state != "failed"}) == 5
    found = read_study(study_file(results, name))
    assert found.default is not None
    assert not list((results / "sweeps" / ".work").rglob("*.pt"))
    weights = list((results / "artifacts" / name).iterdir())
    assert [path.name for path in weights] == [f"trial-{found.best.number:05d}.safetensors"]  # type: ignore[union-attr]


def test_concurrent_sweeps_share_one_study(make_folder: MakeFolder, tmp_path: Path) -> None:
    root, results = make_folder({"cat": 20, "dog": 20}), tmp_path / "results"
    command = ("sweep", "test_efficientnet", "--data", str(root), *TINY, "--trials", "5", "--results", str(results))
    both = [start(*command) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    store = open_storage(default_url(results))
    assert optuna.get_all_study_names(store) == ["test_efficientnet-pets-quick"]
    trials = trials_of(results, "test_efficientnet-pets-quick")
    assert [trial.number for trial in trials if trial.state in {"complete", "pruned"}] == list(range(5))
    assert sum(trial.is_default for trial in trials) == 1


def test_run_all_with_tuning(make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, results = make_folder({"cat": 20, "dog": 20}), tmp_path / "results"
    flags = ("--models", "test_resnet", *TINY, "--runtimes", "onnxruntime-cpu", "--results", str(results))
    data = ("--data", str(root))
    status, output = bench_here("run-all", *flags, *data, "--tune-trials", "3", "--jobs", "2")
    assert status == 0, output
    default, tuned = sorted(read_records(results), key=lambda record: record.tuning is not None)
    assert default.tuning is None
    assert tuned.tuning is not None
    assert tuned.tuning.trials == 3
    assert (results / "leaderboard.md").read_text().count("](sweeps/") == 1
    study = read_study(study_file(results, tuned.tuning.study))
    assert study.best is not None
    threads = tuned.config.train.train_threads  # with two jobs, each trial has half of the cores
    assert tuned.config == replace(study.tuned_config, train=replace(study.tuned_config.train, train_threads=threads))
    assert tuned.tuning.val_top1_accuracy == study.best.val_top1_accuracy
    assert tuned.tuning.val_top1_accuracy >= (tuned.tuning.default_val_top1_accuracy or 0)
    status, output = bench_here("run-all", *flags, *data, "--tuned")
    assert status == 0, output
    assert output.count("already done") == 2
    other = make_folder({"cat": 20, "dog": 20, "owl": 20}, start=500)
    assert main(["run-all", *flags, "--data", str(other), "--tuned"]) == 2
    assert "differs in data set" in capsys.readouterr().err
