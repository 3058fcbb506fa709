"""A real Ray cluster with two workers: results are returned, and equal those of a local run after a kill."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

pytest.importorskip("ray")


from bench import harness
from bench.recipes import RECIPES, configs_of
from bench.records.schema import RunRecord
from bench.records.store import read_record
from bench.runs import local
from bench.runs.on_ray import ray_cluster
from bench.runs.plan import Task, record_file
from bench.tuning import ray_trials
from bench.tuning.records import SweepBudget
from bench.tuning.search import SweepTask, evaluate_here
from tests.helpers.commands import bench
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

# Ray's workers run at nice 15: beside other processes, their start and their work take minutes.
pytestmark = pytest.mark.timeout(1800)


def plan(data: Path, results: Path, *, epochs: int) -> Task:
    recipe = RECIPES["quick"]("test_efficientnet")
    train = replace(recipe.train, epochs=epochs, train_threads=1)
    config = replace(recipe, train=train, loader=replace(recipe.loader, image_size=32))
    return harness.planner([config], data=str(data), weights="none", results=results)(config)


def ray_workers(name: str) -> list[psutil.Process]:
    """Return the processes that run a task of this name."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"ray::{name}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextmanager
def one_killed(name: str) -> Iterator[None]:
    """Kill the first worker that runs a task of this name, after half a second of its work."""
    killed: list[int] = []

    def kill_one() -> None:
        worker = until(lambda: ray_workers(name), what=f"a worker that runs {name}", within_s=600)[0]
        began_s = worker.cpu_times().user
        until(lambda: worker.cpu_times().user > began_s + 0.5, what=f"work of {name}", within_s=600)
        worker.kill()
        killed.append(worker.pid)

    killer = threading.Thread(target=kill_one)
    killer.start()
    yield
    killer.join()
    assert killed


def weights(record: RunRecord, task: Task) -> bytes:
    return (task.paths.artifacts(record.train_id) / "model.safetensors").read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_killed_worker_does_not_change_results(make_folder: MakeFolder, tmp_path: Path) -> None:
    data = make_folder({"cat": 40, "dog": 40})
    theirs_task, ours_task = (plan(data, tmp_path / name, epochs=25) for name in ("cluster", "here"))
    sweep = SweepTask(task=theirs_task, name="pets", url="", space={}, budget=SweepBudget(trials=1))
    with ray_cluster.connected("", jobs=2) as connected:
        assert (connected.threads, connected.gpus) == (1, 0)
        with one_killed("try_setting"):
            trial = ray_trials.evaluate_there(sweep, connected)(theirs_task, lambda _at: False)
        with one_killed("run"):
            (theirs,) = ray_cluster.train([theirs_task], cluster=connected)
    here = evaluate_here(sweep)(ours_task, lambda _at: False)
    assert (trial.ended, trial.images) == (here.ended, here.images) == ("complete", 25 * 64)
    assert trial.state is not None
    assert here.state is not None
    assert all(torch.equal(tensor, here.state[key]) for key, tensor in trial.state.items())
    (ours,) = local.train_here([ours_task])
    assert ours.status == theirs.status == "ok", theirs.error
    assert weights(ours, ours_task) == weights(theirs, theirs_task)
    assert ours.outcome is not None
    assert theirs.outcome is not None
    assert ours.outcome.metrics == theirs.outcome.metrics
    assert read_record(record_file(theirs_task)) == theirs
    names = {path.name for path in theirs_task.paths.artifacts(theirs.train_id).iterdir()}
    kept = {"model.safetensors", "model.onnx", "test_logits.npz", "val_logits.npz", "outcome.json"}
    assert names == kept | {"synthetic.npz", f"{theirs.run_id}.json"}
    assert record_file(theirs_task).with_suffix(".npz").exists()
    assert not theirs.measurements


def test_each_fold_is_sent_its_own_rows(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.put", lambda value: value)
    configs = configs_of(["test_efficientnet"], recipe="quick", seeds=(0,), overrides={"folds": 2, "image_size": 32})
    data = str(make_folder({"cat": 20, "dog": 20}))
    plan = harness.planner(configs, data=data, weights="none", results=tmp_path / "results")
    cluster = ray_cluster.Cluster(threads=1, gpus=0, parcels={})
    first, second = (ray_cluster.parcel_of(plan(config), cluster) for config in configs)
    assert not set(first[0].rows["test"]) & set(second[0].rows["test"])
    assert len(first[0].rows["test"]) + len(second[0].rows["test"]) == 40
    assert first[1] is second[1], "the pixels are sent once"


@pytest.fixture
def blind_cluster(tmp_path: Path) -> Iterator[str]:
    """Start a cluster whose processes cannot see the caller's folders."""
    hidden = tmp_path / "callers"
    hidden.mkdir()
    ray = Path(sys.executable).parent / "ray"
    unshared = ["unshare", "--mount", "bash", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshared, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system does not let us hide a folder from a process (unshare --mount)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = f"'{ray}' start --head --port {port} --num-cpus 2 --include-dashboard=false"
    command = f"mount -t tmpfs none '{hidden}' && exec {head}"
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    started = subprocess.run([*unshared, command], check=False, capture_output=True, env=environment, timeout=120)
    assert started.returncode == 0, started
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([ray, "stop", "--force"], check=False, capture_output=True, timeout=60)


def test_run_all_without_a_shared_disk(blind_cluster: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20}, name="callers/pets")
    results = tmp_path / "callers" / "results"
    flags = ("--data", str(root), "--recipe", "quick", "--weights", "none", "--image-size", "32")
    launcher = ("--launcher", "ray", "--ray-address", blind_cluster, "--jobs", "2")
    # The precision is decided by a worker, too.
    tuned = ("--precision", "auto", "--tune-trials", "4", "--results", str(results))
    command = ("run-all", "--models", "test_efficientnet", *flags, *launcher, *tuned)
    environment = {"IMGCLS_CACHE": str(tmp_path / "callers" / "cache")}
    status, output = bench(*command, "--runtimes", "onnxruntime-cpu", environment=environment)
    assert status == 0, output
    found = [read_record(path) for path in (results / "records").glob("*/*.json")]
    assert sorted(record.tuning is not None for record in found) == [False, True]
    # One network, measured once.
    assert sum(bool(record.measurements) for record in found) == 1
    assert len(list((results / "artifacts" / "test_efficientnet-pets-quick").glob("trial-*.safetensors"))) == 1
    assert (results / "sweeps" / "test_efficientnet-pets-quick.md").exists()
