"""The record that a run writes: figures of an earlier record, and the summary of its predictions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.recipes import RECIPES
from bench.records.predictions import read_answers
from bench.records.schema import Latency, Outcome
from bench.records.store import read_record, write_json
from bench.runs import execution
from bench.runs.plan import Task, record_file
from imgcls.evaluation.predictions import Predictions, predictions_file, save_predictions
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

    def run_one(task: Task, _prepared: object) -> Outcome:
        number, outcome = next(waiting)
        labels = np.repeat([0, 1], task.dataset.counts["test"])
        predictions = Predictions(
            image_ids=tuple(map(str, range(len(labels)))), labels=labels, logits=np.eye(2, dtype=np.float32)[labels]
        )
        save_predictions(predictions, predictions_file(task.paths.artifacts(task.train_id), "test"))
        if number == measured_in:
            record = read_record(record_file(task))
            rows = (examples.measurement("onnxruntime-cpu"),)
            write_json(
                record.with_latency(Latency(environment=record.environment, measurements=rows)), record_file(task)
            )
        return outcome

    monkeypatch.setattr(execution, "run_one", run_one)


@pytest.mark.parametrize(("sha256", "kept"), [("a" * 64, ["onnxruntime-cpu"]), ("b" * 64, [])])
def test_equal_onnx_file_keeps_its_latency(
    task: Task, monkeypatch: pytest.MonkeyPatch, sha256: str, kept: list[str]
) -> None:
    first = examples.outcome(task.dataset, 0.8)
    again = replace(first, artifact=replace(first.artifact, sha256=sha256))
    replace_training(monkeypatch, [first, again], measured_in=1)
    assert not execution.run_and_record(task).measurements
    record = execution.run_and_record(task)
    assert [row.runtime for row in record.measurements] == kept
    assert record.test_scorings == 2
    assert read_record(record_file(task)) == record


def test_summary_uses_the_fitted_temperature(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = examples.outcome(task.dataset, 0.8)
    calibration = Calibration(temperature=2.0, test_log_loss=0.1, test_ece=0.1)
    scored = replace(outcome, metrics=replace(outcome.metrics, calibration=calibration))
    replace_training(monkeypatch, [scored], measured_in=-1)
    answers = read_answers(execution.run_and_record(task), task.paths.results)
    assert answers is not None
    assert answers.log_p_true == pytest.approx(-np.log(1 + np.exp(-1)))
    assert answers.log_p_true_calibrated == pytest.approx(-np.log(1 + np.exp(-0.5)))
