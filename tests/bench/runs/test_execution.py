"""The record that a run writes: figures of an earlier record, and the summary of its predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.comparison import analysis
from bench.config import with_overrides
from bench.recipes import RECIPES
from bench.records.predictions import read_predictions
from bench.records.schema import Latency, Outcome
from bench.records.store import read_record, write_with_digest
from bench.runs import execution, recording
from bench.runs.plan import Task, record_file
from imgcls.errors import ConfigError
from imgcls.evaluation.predictions import Predictions, load_predictions, predictions_file, save_predictions
from imgcls.evaluation.results import Calibration
from tests.helpers import examples
from tests.helpers.images import MakeFolder


@pytest.fixture
def task(make_folder: MakeFolder, tmp_path: Path) -> Task:
    config = RECIPES["quick"]("test_resnet")
    data = str(make_folder({"cat": 20, "dog": 20}))
    return harness.planner([config], data=data, weights="none", results=tmp_path / "results")(config, force=True)


def replace_training(monkeypatch: pytest.MonkeyPatch, outcomes: list[Outcome], *, measured_in: int) -> None:
    """Replace training by these outcomes; latency is measured during the one with the number ``measured_in``."""
    waiting = iter(enumerate(outcomes))

    def run_one(task: Task, _prepared: object, **_saved: object) -> Outcome:
        number, outcome = next(waiting)
        labels = np.repeat([0, 1], task.dataset.counts["test"])
        predictions = Predictions(
            image_ids=tuple(map(str, range(len(labels)))), labels=labels, logits=np.eye(2, dtype=np.float32)[labels]
        )
        save_predictions(predictions, predictions_file(task.paths.artifacts(task.train_id), "test"))
        if number == measured_in:
            record = read_record(record_file(task))
            rows = (examples.measurement("onnxruntime-cpu"),)
            write_with_digest(
                record.with_latency(Latency(environment=record.environment, measurements=rows)), record_file(task)
            )
        return outcome

    monkeypatch.setattr(recording, "run_one", run_one)


@pytest.mark.parametrize(("sha256", "kept"), [("a" * 64, ["onnxruntime-cpu"]), ("b" * 64, [])])
def test_equal_onnx_file_keeps_its_latency(
    task: Task, monkeypatch: pytest.MonkeyPatch, sha256: str, kept: list[str]
) -> None:
    first = examples.outcome(task.dataset, 0.8)
    again = replace(first, artifact=replace(first.artifact, sha256=sha256))
    replace_training(monkeypatch, [first, again], measured_in=1)
    assert not recording.run_and_record(task).measurements
    record = recording.run_and_record(task)
    assert [row.runtime for row in record.measurements] == kept
    assert record.test_scorings == 2
    assert read_record(record_file(task)) == record


def test_summary_uses_the_fitted_temperature(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = examples.outcome(task.dataset, 1.0)
    calibration = Calibration(temperature=2.0, test_log_loss=0.1)
    scored = replace(outcome, metrics=replace(outcome.metrics, calibration=calibration))
    replace_training(monkeypatch, [scored], measured_in=-1)
    predictions = read_predictions(recording.run_and_record(task), task.paths)
    assert predictions is not None
    assert predictions.log_p_true == pytest.approx(-np.log(1 + np.exp(-1)))
    assert predictions.log_p_true_calibrated == pytest.approx(-np.log(1 + np.exp(-0.5)))


def planned(
    make_folder: MakeFolder, tmp_path: Path, model: str = "test_efficientnet", size: int = 32
) -> tuple[Task, Task]:
    """The tasks of the same setting without a technique and with post-hoc adjustment, of an uneven data set."""
    plain = with_overrides(RECIPES["quick"](model), {"epochs": 1, "image_size": size})
    adjusted = with_overrides(plain, {"imbalance": "post-hoc"})
    data = str(make_folder({"cat": 60, "dog": 20}))
    plan = harness.planner([plain, adjusted], data=data, weights="none", results=tmp_path / "results")
    return plan(plain), plan(adjusted)


def logits_of(task: Task, split: str) -> np.ndarray:
    return load_predictions(predictions_file(task.paths.artifacts(task.train_id), split)).logits


def test_post_hoc_adjusts_the_logits_of_a_finished_training(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those of the training less the log priors of train; it is not trained again, and costs as much."""
    plain, adjusted = planned(make_folder, tmp_path)
    first = recording.run_and_record(plain)
    monkeypatch.setattr(execution, "fit", lambda *_args, **_kwargs: pytest.fail("trained again"))
    second = recording.run_and_record(adjusted)
    assert second.derived_from == (first.run_id,)
    counts = np.array(plain.dataset.counts["train"])
    for split in ("val", "test"):
        difference = logits_of(adjusted, split) - logits_of(plain, split)
        assert difference == pytest.approx(np.tile(-np.log(counts / counts.sum()), (len(difference), 1)), abs=1e-4)
    assert first.outcome is not None
    assert second.outcome is not None
    assert second.outcome.training == first.outcome.training
    assert second.outcome.artifact.parity.top1_agreement == 1
    assert set(first.outcome.metrics.train_metrics) == set(first.outcome.metrics.val_metrics)
    (found,) = analysis.read(plain.paths.results)
    assert len(found.compared) == 2


def test_post_hoc_without_its_training_is_a_failed_row(make_folder: MakeFolder, tmp_path: Path) -> None:
    _, adjusted = planned(make_folder, tmp_path)
    record = recording.run_and_record(adjusted)
    assert record.status == "failed"
    assert record.error is not None
    assert "the same training with imbalance none is not in this results folder" in record.error


def test_post_hoc_refuses_a_model_without_a_linear_classifier(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="volo_d1_224 does not end in linear classifiers; use logit-adjustment"):
        planned(make_folder, tmp_path, model="volo_d1_224", size=224)
