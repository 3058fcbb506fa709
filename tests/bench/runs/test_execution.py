"""What a run writes while other commands use the same record."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import harness
from bench.recipes import RECIPES
from bench.records.schema import Latency, Outcome
from bench.records.store import read_record, write_json
from bench.runs import execution
from bench.runs.plan import Task, record_file
from imgcls.evaluation.predictions import Predictions, predictions_file, save_predictions
from tests.conftest import MakeFolder
from tests.helpers import examples


def test_figures_measured_during_a_repetition_are_kept(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(make_folder({"cat": 20, "dog": 20}))
    plan = harness.planner([RECIPES["quick"]("test_resnet")], data=data, weights="none", results=tmp_path / "results")
    task = plan(RECIPES["quick"]("test_resnet"), force=True)
    trained = 0

    def run_one(task: Task, _prepared: object) -> Outcome:
        """Stand in for training; the second time, latency is measured meanwhile."""
        nonlocal trained
        trained += 1
        predictions = Predictions(
            image_ids=("a", "b"), labels=np.array([0, 1]), logits=np.eye(2, dtype=np.float32), groups=None
        )
        save_predictions(predictions, predictions_file(task.paths.artifacts(task.train_id), "test"))
        if trained > 1:
            record = read_record(record_file(task))
            rows = (examples.measurement("onnxruntime-cpu"),)
            write_json(
                record.with_latency(Latency(environment=record.environment, measurements=rows)), record_file(task)
            )
        return examples.outcome(task.dataset, 0.8)

    monkeypatch.setattr(execution, "run_one", run_one)
    assert not execution.run_and_record(task).measurements
    again = execution.run_and_record(replace(task, force=True))
    assert [row.runtime for row in again.measurements] == ["onnxruntime-cpu"]
    assert again.test_scorings == 2
    assert read_record(record_file(task)) == again
