"""Planned runs: what identifies a run and its training, and their task files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.config import RunConfig
from bench.recipes import RECIPES
from bench.records.paths import Paths
from bench.runs.plan import Task, make_task, plan_data, read_task, write_task
from imgcls.config import RuntimeConfig, SplitConfig
from imgcls.models.weights import Weights, random_weights
from tests.helpers.audits import audit_of
from tests.helpers.examples import ENVIRONMENT

RECIPE = RECIPES["quick"]("test_resnet")
CONFIG = replace(RECIPE, train=replace(RECIPE.train, device="cpu", train_threads=1))


def plan(config: RunConfig = CONFIG, *, machine: str = "a-cpu", digest: str = "d", sha256: str | None = None) -> Task:
    def weights_for(name: str) -> Weights:
        return replace(random_weights(name), sha256=sha256)

    audit = replace(audit_of([[0]] * 10 + [[1]] * 10), digest=digest)
    return make_task(
        config,
        plan_data(audit, config.split, data="pets"),
        weights_for=weights_for,
        environment=replace(ENVIRONMENT, machine=machine),
        paths=Paths(results=Path("results"), cache=Path("cache")),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"config": replace(CONFIG, train=replace(CONFIG.train, lr=0.5))},
        {"config": replace(CONFIG, loader=replace(CONFIG.loader, batch_size=8))},
        {"config": replace(CONFIG, architecture=replace(CONFIG.architecture, dropout=0.5))},
        {"config": replace(CONFIG, seed=1)},
        {"config": replace(CONFIG, split=SplitConfig(split_seed=1))},
        {"machine": "b-cpu"},
        {"digest": "e"},
        {"sha256": "f" * 64},
    ],
    ids=["lr", "batch size", "dropout", "seed", "split", "machine", "data", "weights"],
)
def test_other_trainings_have_other_ids(changes: dict[str, Any]) -> None:
    assert plan(**changes).train_id != plan().train_id
    assert plan(**changes).run_id != plan().run_id


def test_other_runtimes_share_a_training() -> None:
    other = plan(replace(CONFIG, runtime=RuntimeConfig(runtimes=("onnxruntime-cpu",))))
    assert other.train_id == plan().train_id
    assert other.run_id != plan().run_id


def test_task_file_is_private_and_read_back(tmp_path: Path) -> None:
    """The URL of a study's storage, which is part of a task, may contain a password."""
    write_task(plan(), tmp_path / "task.json")
    assert (tmp_path / "task.json").stat().st_mode & 0o777 == 0o600
    assert read_task(tmp_path / "task.json", Task) == plan()
