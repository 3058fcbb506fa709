"""A real Ray cluster with two workers: results are returned, and equal those of a local run after a kill."""

import io
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

pytest.importorskip("ray")

import ray

from bench import harness
from bench.config import with_overrides, with_values
from bench.recipes import RECIPES
from bench.records.schema import RunRecord
from bench.records.store import read_record
from bench.runs import local, recording
from bench.runs.on_ray import ray_cluster, ray_runs, ray_tasks
from bench.runs.plan import Task, record_file
from bench.tuning import ray_trials
from bench.tuning.records import SweepBudget
from bench.tuning.search import SweepTask, evaluate_here
from imgcls.config import Norm, StoreConfig
from imgcls.data.sources.registry import absolute
from imgcls.data.stores.files import FileStore
from tests.helpers.commands import bench, without_processes
from tests.helpers.images import MakeFolder
from tests.helpers.waiting import until

# Ray's workers run at nice 15: beside other processes, their start and their work take minutes.
pytestmark = pytest.mark.timeout(1800)


def plan(data: Path, results: Path, *, epochs: int, seed: int = 0, norm: Norm = "batch") -> Task:
    recipe = RECIPES["quick"]("test_efficientnet")
    train = replace(recipe.train, epochs=epochs, train_threads=1, norm=norm)
    config = replace(recipe, seed=seed, train=train, loader=replace(recipe.loader, image_size=32))
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


def predictions(task: Task) -> list[bytes]:
    folder = task.paths.artifacts(task.train_id)
    return [(folder / f"{split}_logits.npz").read_bytes() for split in ("val", "test")]


def epochs_of(task: Task) -> int:
    """Return the epochs of the state that a run on the cluster has sent."""
    state = ray_cluster.read_state(task)
    if state is None:
        return 0
    file = io.BytesIO(state[f"artifacts/{task.train_id}/state.pt"])
    return len(torch.load(file, weights_only=True)["history"])


@pytest.mark.cluster
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
            (theirs,) = ray_runs.train([theirs_task], cluster=connected)
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


def test_only_weights_go_through_the_object_store(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[bytes | None] = []
    monkeypatch.setattr("ray.put", lambda value: stored.append(value) or len(stored))
    cluster = ray_cluster.Cluster(threads=1, gpus=0)
    few, many = make_folder({"cat": 10, "dog": 10}, name="few"), make_folder({"cat": 90, "dog": 90}, name="many")
    tasks = [plan(data, tmp_path / "results", epochs=1) for data in (few, many)]
    monkeypatch.chdir(tmp_path)
    sent = [ray_cluster.parcel_of(replace(task, data=Path(task.data).name), cluster) for task in tasks]
    assert [parcel.task.data for parcel, _ in sent] == [str(few), str(many)]
    sizes = [len(pickle.dumps(parcel)) for parcel, _ in sent]
    assert max(sizes) < 10_000
    assert abs(sizes[1] - sizes[0]) < 20, "the size depends on names, and not on the number of images"
    assert stored == [None], "the same weights are sent once, and here they are random"
    assert not list((tmp_path / "cache").glob("pixels/*.npy")), "nothing is prepared where no run is trained"


def test_location_of_a_data_set_is_absolute(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"cat": 1, "dog": 1}, name="shared/pets")
    make_folder({"cat": 1}, name="digits")
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    assert absolute("shared/pets") == str(root)
    assert absolute("link") == str(tmp_path / "link"), "nodes may have the link, and not its target"
    assert absolute("hf:shared/pets") == f"hf:{root}"
    # Names, on every node: a folder of the same name is another data set.
    assert [absolute(name) for name in ("digits", "hf:owner/name")] == ["digits", "hf:owner/name"]


def test_node_without_the_photos_is_named(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.node", lambda: "gpu-2")
    root = make_folder({"cat": 20, "dog": 20})
    task = plan(root, tmp_path / "results", epochs=1)
    make_folder({"cat": 5, "dog": 5}, start=1000)  # other photos under the names of the first
    with pytest.raises(ray_tasks.NodeError) as other:
        ray_tasks.prepare_there(task, StoreConfig())
    shutil.rmtree(root)
    with pytest.raises(ray_tasks.NodeError) as missing:
        ray_tasks.prepare_there(task, StoreConfig())
    for raised, why in ((other, "has other photos than the caller's"), (missing, "is not there")):
        line = str(pickle.loads(pickle.dumps(raised.value)))  # noqa: S301 - as Ray sends it
        assert line.startswith("node gpu-2 (")
        assert f"): {root} {why}; every node needs" in line
        assert line.endswith("a shared folder, or a copy")
        assert raised.value.neutral.startswith(f"a node of the cluster: DATA {why}; every node needs")


def test_node_decides_where_its_pixels_come_from(make_folder: MakeFolder, tmp_path: Path) -> None:
    task = plan(make_folder({"cat": 10, "dog": 10}), tmp_path / "results", epochs=1)
    cache = tmp_path / "cache" / "pixels"
    assert task.store == "pixels", "planned on the caller's machine"
    files = ray_tasks.prepare_there(task, StoreConfig(store="files"))
    assert isinstance(files.pixels, FileStore)
    assert isinstance(ray_tasks.prepare_there(task, StoreConfig(store_gb=0)).pixels, FileStore)
    assert not list(cache.glob("*.npy"))
    stored = ray_tasks.prepare_there(task, StoreConfig())
    assert len(list(cache.glob("*.npy"))) == 1
    rows = np.arange(20)
    assert (stored.pixels[rows] == files.pixels[rows]).all()


class Here(ray_cluster.Cluster):
    """A cluster whose tasks are carried out in this process, when their results are read."""

    def remote(self, function: Any, **_options: Any) -> Any:
        return SimpleNamespace(remote=function)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    for name, stand_in in {
        "put": lambda value: value,
        "get": lambda ref: ref,
        "wait": lambda waiting: (waiting[:1], waiting[1:]),
        "shutdown": lambda: None,
    }.items():
        monkeypatch.setattr(ray, name, stand_in)
    return Here(threads=1, gpus=0)


def test_run_without_its_photos_is_a_failed_row(
    here: Here, make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    task = plan(root, tmp_path / "results", epochs=1)
    shutil.rmtree(root)
    (record,) = ray_runs.train([task], cluster=here)
    assert read_record(record_file(task)) == record
    assert record.error == (
        "NodeError: a node of the cluster: DATA is not there; every node needs it under this path: a shared folder, or "
        "a copy"
    )
    (line,) = [message for message in caplog.messages if "failed" in message]
    assert f"): {root} is not there; every node needs it under this path" in line


@pytest.mark.filterwarnings("ignore")
def test_logits_are_adjusted_after_their_training_has_come_back(
    here: Here, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_overrides(RECIPES["quick"]("test_efficientnet"), {"epochs": 1, "image_size": 32})
    configs = [recipe, with_overrides(recipe, {"imbalance": "post-hoc"})]
    data = str(make_folder({"cat": 20, "dog": 10}))
    planner = harness.planner(configs, data=data, weights="none", results=tmp_path / "results", threads=1)
    tasks = [planner(config) for config in configs]
    monkeypatch.setattr(local, "train_here", lambda own: [recording.run_and_record(task) for task in own])
    for order in (tasks, tasks[::-1]):
        records = ray_runs.train([replace(task, force=True) for task in order], cluster=here)
        assert [record.error for record in records] == [None, None]
        assert [record.run_id for record in records] == [task.run_id for task in order]


@pytest.mark.filterwarnings("ignore")
def test_repeated_command_continues_from_the_state_that_was_sent(
    here: Here, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = plan(make_folder({"cat": 10, "dog": 10}), tmp_path / "results", epochs=2)
    received: list[object] = []

    def interrupted(sent: object) -> object:
        if received:
            raise KeyboardInterrupt
        received.append(sent)
        return sent

    with monkeypatch.context() as patch:
        patch.setattr(ray, "get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ray_runs.train([task], cluster=here)
    state = task.paths.state(task.run_id)
    before = state.read_bytes()
    (record,) = ray_runs.train([task], cluster=here)
    assert record.finished.training.resumed_from == (1,)
    assert not state.exists()
    state.write_bytes(before[:-100])
    assert ray_cluster.read_state(task) is None, "a damaged state is not used"
    state.write_bytes(before)
    assert ray_cluster.read_state(task) is not None
    monkeypatch.setattr(ray, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ray_runs.train([replace(task, force=True)], cluster=here)
    assert not state.exists(), "a repetition starts from the beginning"


@contextmanager
def nodes(count: int, **resources: int) -> Iterator[Any]:
    """Start a cluster of a head without cores and some nodes of one core each, with further ``resources``."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, **resources)
        yield cluster
    finally:
        cluster.shutdown()


def remove_node_of(name: str, cluster: Any) -> None:
    """Remove the node on which a worker runs a task or actor of this name."""
    raylet = ray_workers(name)[0].ppid()
    (node,) = (node for node in cluster.worker_nodes if node.all_processes["raylet"][0].process.pid == raylet)
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_lost_node_costs_the_last_epoch_at_most(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    data = make_folder({"cat": 40, "dog": 40})
    ours, theirs = (plan(data, tmp_path / place, epochs=40) for place in ("here", "cluster"))
    sent: list[int] = []

    def lose_the_node() -> None:
        until(lambda: epochs_of(theirs) >= 3, what="three epochs", within_s=600)
        remove_node_of("run", cluster)
        sent.append(epochs_of(theirs))

    # What Ray takes for a GPU: tasks then have a process each.
    with nodes(2, num_gpus=1) as cluster, ray_cluster.connected(cluster.address, jobs=2) as connected:
        assert (connected.threads, connected.gpus) == (1, 1)
        # One process each, with which the memory and the statistics of a GPU end.
        pid = connected.remote(lambda: os.getpid())  # noqa: PLW0108 - Ray takes no function of C
        assert len({ray.get(pid.remote()) for _ in range(3)}) == 3
        killer = threading.Thread(target=lose_the_node)
        killer.start()
        (record,) = ray_runs.train([theirs], cluster=connected)
        killer.join()
    training = record.finished.training
    (resumed,) = training.resumed_from
    assert 3 <= sent[0] <= resumed < training.epochs == 40
    assert not theirs.paths.state(theirs.run_id).exists()
    with without_processes():
        (own,) = local.train_here([ours])
    assert weights(own, ours) == weights(record, theirs)
    assert predictions(ours) == predictions(theirs)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_training_on_two_nodes_continues_on_a_third_if_one_is_lost(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are those of two processes on this machine, to the bit."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    data = make_folder({"cat": 40, "dog": 40})
    ours, theirs = (
        replace(task, config=with_values(task.config, {"devices": 2}))
        for task in (plan(data, tmp_path / place, epochs=80, norm="frozen") for place in ("here", "cluster"))
    )

    def lose_a_node() -> None:
        until(lambda: epochs_of(theirs) >= 2, what="two epochs", within_s=600)
        remove_node_of("RayTrainWorker", cluster)

    with nodes(3) as cluster, ray_cluster.connected(cluster.address, jobs=1) as connected:
        assert connected.devices == 3
        killer = threading.Thread(target=lose_a_node)
        killer.start()
        (record,) = ray_runs.train([theirs], cluster=connected)
        killer.join()
    assert record.error is None
    training = record.finished.training
    assert len(training.resumed_from) == 1
    assert 2 <= training.resumed_from[0] < training.epochs == 80
    (own,) = local.train_here([ours])
    assert weights(own, ours) == weights(record, theirs)


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_without_the_photos_fail_with_that_reason_and_once(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    data = make_folder({"cat": 40, "dog": 40})
    task = plan(data, tmp_path / "results", epochs=1, norm="frozen")
    task = replace(task, config=with_values(task.config, {"devices": 2}))
    shutil.rmtree(data)
    with nodes(2) as cluster, ray_cluster.connected(cluster.address, jobs=1) as connected:
        (record,) = ray_runs.train([task], cluster=connected)
    assert record.error is not None
    assert record.error.startswith("NodeError: a node of the cluster: DATA is not there; every node needs it")
    assert not [line for line in caplog.messages if "continues elsewhere" in line]


@pytest.fixture
def blind_cluster(tmp_path: Path) -> Iterator[str]:
    """Start a cluster whose processes see the data set, but neither results nor cache of the caller."""
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


def test_run_all_with_nothing_shared_but_the_data(blind_cluster: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20}, name="shared/pets")
    results = tmp_path / "callers" / "results"
    flags = ("--data", str(root), "--recipe", "quick", "--weights", "none", "--image-size", "32")
    launcher = ("--launcher", "ray", "--ray-address", blind_cluster, "--jobs", "2")
    # The precision is decided by a worker, too.
    tuned = ("--precision", "auto", "--tune-trials", "4", "--store", "files", "--results", str(results))
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
