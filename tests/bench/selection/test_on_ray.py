"""Forms on a real Ray cluster: they are those of this machine, and any node continues them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray")

from bench import harness
from bench.config import with_overrides
from bench.recipes import RECIPES
from bench.runs.on_ray import ray_cluster
from bench.selection import forms
from bench.selection.crews.on_ray import crew_there
from bench.selection.forms import FormTask, Stage, unpacked

# Ray's workers run at nice 15: beside other processes, their start and their work take minutes.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.cluster]


def test_forms_of_a_cluster_are_those_of_this_machine(photos: Path, weights: Path, tmp_path: Path) -> None:
    recipe = RECIPES["finetune"]("test_efficientnet")
    values = {"image_size": 32, "precision": "fp32", "epochs": 2, "batch_size": 16, "train_threads": 1}
    config = with_overrides(recipe, values)
    plan = harness.planner([config], data=str(photos), weights=str(weights), results=tmp_path / "there")
    task = plan(config)
    stages = [Stage(share=0.5), Stage(epochs=1, of_epochs=2), Stage(epochs=2, of_epochs=2)]

    with ray_cluster.connected("", jobs=1) as cluster, crew_there(1, cluster) as crew:
        tasks = [FormTask(number=0, task=task, stage=stage) for stage in stages]
        there = [result for _, result, _ in crew(iter(tasks))]
    local = replace(task, paths=replace(task.paths, results=tmp_path / "here"))
    here = [forms.carry_out(FormTask(number=0, task=local, stage=stage)) for stage in stages]

    assert [result.error for result in there] == [None] * 3
    assert task.paths.state(task.run_id).exists()
    images = sum(task.dataset.counts["val"])
    for one, other in zip(there, here, strict=True):
        assert np.array_equal(unpacked(one.right, images), unpacked(other.right, images))
