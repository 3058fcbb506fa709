"""Artifacts that were damaged are made again, and a repetition that fails leaves the former result as it was."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.recipes import RECIPES
from bench.records.predictions import read_predictions
from bench.records.schema import Outcome, RunRecord
from bench.records.store import read_record, to_json, write_json
from bench.runs import local, recording
from bench.runs.artifacts import set_aside, whole_outcome
from bench.runs.plan import Task, finished_record, make_record, record_file
from imgcls.evaluation.predictions import Predictions, predictions_file, save_predictions
from imgcls.inference.runtimes import ONNX
from imgcls.inference.torch_sessions import WEIGHTS
from imgcls.training.ranks import PeerLostError
from tests.helpers import examples
from tests.helpers.images import MakeFolder

SIZE = 1000


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path) -> Task:
    config = RECIPES["quick"]("test_resnet")
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)


def stub(task: Task, *, fill: bytes = b"1") -> Outcome:
    """Write artifacts as a training does, in no time."""
    folder = task.paths.artifacts(task.train_id)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (ONNX, WEIGHTS):
        (folder / name).write_bytes(fill * SIZE)
    labels = np.repeat([0, 1], task.dataset.counts["test"])
    logits = np.eye(2, dtype=np.float32)[labels]
    predictions = Predictions(image_ids=tuple(map(str, range(len(labels)))), labels=labels, logits=logits)
    save_predictions(predictions, predictions_file(folder, "test"))
    outcome = examples.outcome(task.dataset, 1.0)
    sizes = replace(outcome.artifact, size_bytes=SIZE, checkpoint_size_bytes=SIZE)
    outcome = replace(outcome, artifact=sizes)
    write_json(outcome, task.paths.outcome(task.train_id))
    return outcome


def stubbed(monkeypatch: pytest.MonkeyPatch, train: Callable[[Task], Outcome]) -> list[str]:
    """Replace training; returns the list of all trainings."""
    trained: list[str] = []

    def run_one(task: Task, _prepared: object, **_saved: object) -> Outcome:
        trained.append(task.run_id)
        return train(task)

    monkeypatch.setattr(recording, "run_one", run_one)
    return trained


@pytest.fixture
def done(task: Task, monkeypatch: pytest.MonkeyPatch) -> RunRecord:
    stubbed(monkeypatch, stub)
    return recording.run_and_record(task)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "model.onnx has 0 of 1,000 bytes": lambda folder: (folder / ONNX).unlink(),
    "model.safetensors has 10 of 1,000 bytes": lambda folder: (folder / WEIGHTS).write_bytes(b"1" * 10),
    "outcome.json is damaged": lambda folder: (folder / "outcome.json").write_text('{"model": '),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_damaged_artifacts_are_not_done(
    reason: str, task: Task, done: RunRecord, caplog: pytest.LogCaptureFixture
) -> None:
    assert finished_record(task) == done
    DAMAGE[reason](task.paths.artifacts(task.train_id))
    assert finished_record(task) is None
    assert f"{reason}" in caplog.text
    assert "the run is repeated" in caplog.text


def test_damaged_artifacts_are_trained_again(make_folder: MakeFolder, tmp_path: Path) -> None:
    """For real, with everything of the damaged training removed: the same weights to the bit."""
    config = RECIPES["quick"]("test_efficientnet")
    train = replace(config.train, epochs=1, train_threads=1)
    config = replace(config, train=train, loader=replace(config.loader, image_size=32))
    data = str(make_folder({"cat": 20, "dog": 20}))
    task = harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config)
    first = recording.run_and_record(task)
    weights = task.paths.artifacts(task.train_id) / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    second = recording.run_and_record(task)
    assert second.status == "ok"
    assert weights.read_bytes() == whole
    assert second.finished.metrics == first.finished.metrics
    assert finished_record(task) == second
    assert read_predictions(second, task.paths) is not None


def test_a_repetition_that_fails_keeps_the_result(
    task: Task, done: RunRecord, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(task: Task) -> Outcome:
        stub(task, fill=b"2")
        message = "no space left"
        raise OSError(message)

    stubbed(monkeypatch, fails)
    record = recording.run_and_record(replace(task, force=True))
    assert record.status == "failed"
    assert "the result from before this repetition is kept" in caplog.text
    kept_whole(task, done)


def test_a_lost_process_of_several_leaves_no_record(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started them records why it was lost, or continues the run."""

    def loses(_task: Task) -> Outcome:
        raise PeerLostError

    stubbed(monkeypatch, loses)
    with pytest.raises(PeerLostError):
        recording.run_and_record(task)
    assert not record_file(task).exists()


def kept_whole(task: Task, done: RunRecord) -> None:
    """The record and the artifacts are those from before the repetition."""
    assert read_record(record_file(task)) == done
    assert finished_record(task) == done
    folder = task.paths.artifacts(task.train_id)
    assert (folder / WEIGHTS).read_bytes() == b"1" * SIZE
    assert read_predictions(done, task.paths) is not None
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_repetition_that_is_killed_keeps_the_result(
    task: Task, done: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: object, **_options: object) -> int:
        set_aside(task.paths, task.train_id)
        stub(task, fill=b"2")
        return -9

    monkeypatch.setattr(local.ForkServer, "run", killed)
    (record,) = local.train_here([replace(task, force=True)])
    assert record.status == "failed"
    assert "killed" in str(record.error)
    kept_whole(task, done)


def test_a_repetition_that_is_interrupted_is_undone_by_the_next_command(
    task: Task, done: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(task: Task) -> Outcome:
        stub(task, fill=b"2")
        task.paths.outcome(task.train_id).unlink()
        raise KeyboardInterrupt

    trained = stubbed(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        recording.run_and_record(replace(task, force=True))
    assert whole_outcome(task.paths, task.train_id) is None
    assert recording.run_and_record(task) == done
    assert len(trained) == 1
    kept_whole(task, done)


def test_a_repetition_that_succeeds_replaces_the_result(
    task: Task, done: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed(monkeypatch, lambda task: stub(task, fill=b"2"))
    record = recording.run_and_record(replace(task, force=True))
    assert record.test_scorings == done.test_scorings + 1
    folder = task.paths.artifacts(task.train_id)
    assert (folder / WEIGHTS).read_bytes() == b"2" * SIZE
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_repetition_that_fails_on_a_cluster_keeps_the_result(task: Task, done: RunRecord) -> None:
    pytest.importorskip("ray")
    from bench.runs.on_ray import ray_cluster

    now = dt.datetime.now(dt.UTC)
    failed = make_record(task, started=now, duration_s=1.0, outcome=None, error="RuntimeError: lost")
    name = record_file(task).relative_to(task.paths.results).as_posix()
    files = {name: to_json(failed).encode()}
    assert ray_cluster.collected(replace(task, force=True), files) == failed
    kept_whole(task, done)


def test_a_first_run_that_is_killed_is_a_failed_record(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.ForkServer, "run", lambda *_arguments, **_options: -9)
    (record,) = local.train_here([task])
    assert read_record(record_file(task)) == record
    assert record.status == "failed"
