"""A real race that is killed twice and repeated, here and with its study in PostgreSQL."""

from functools import partial
from pathlib import Path

import optuna
import pytest

from bench.records.store import read_records
from bench.selection.records import read_race
from bench.tuning.storage import default_url, open_storage, quiet
from tests.helpers.commands import kill, start
from tests.helpers.postgresql import INSTALLED, Server
from tests.helpers.waiting import until

FLAGS = ("--recipe", "finetune", "--epochs", "2", "--batch-size", "16", "--sizes", "32", "--minutes", "4")
SHORT = "tests.helpers.short_race"
RACED = ("--candidates", "test_efficientnet", "test_resnet", "--finalists", "1")


def _has_scored(url: str, forms: int) -> bool:
    """Return whether the only study of a database holds as many forms."""
    quiet()
    store = open_storage(url)
    names = optuna.get_all_study_names(store)
    studies = [optuna.load_study(study_name=name, storage=store) for name in names]
    count = sum(len(trial.intermediate_values) for study in studies for trial in study.trials)
    store.engine.dispose()
    return count >= forms


def _killed_twice(url: str, *command: str) -> str:
    """Kill a command after its first form and after its fourth, repeat it to its end, and return what that prints."""
    for forms in (1, 4):
        process = start(*command, module=SHORT)
        until(partial(_has_scored, url, forms), what=f"{forms} forms")
        kill(process)
    process = start(*command, module=SHORT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return str(output)


# The server's variant takes another minute, and stores in the same way: nox -s cluster.
@pytest.mark.parametrize("server", [False, pytest.param(True, marks=pytest.mark.cluster)])
def test_a_race_that_is_killed_twice_ends_as_one_race(
    server: bool,  # noqa: FBT001 - a parameter of the test
    weights: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    if server and not INSTALLED:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    results = tmp_path / "results"
    command = ["select", "--data", str(photos), "--weights", str(weights), *FLAGS, *RACED, "--results", str(results)]
    if server:
        with Server() as running:
            output = _killed_twice(running.url, *command, "--storage", running.url)
        assert not (results / "sweeps" / "studies.db").exists()
    else:
        (results / "sweeps").mkdir(parents=True)
        output = _killed_twice(default_url(results), *command)
    (path,) = (results / "selections").glob("*.json")
    race = read_race(path)

    # Each form was scored once, and the finalist's training was continued, not started again.
    assert [len(entrant.scores) for entrant in race.entrants if entrant.left is None] == [3]
    finalists = [record for record in read_records(results) if record.config.seed == 0]
    assert [record.status for record in finalists] == ["ok"]
    assert finalists[0].finished.training.epochs == 2
    times = [scored.at_s for entrant in race.entrants for scored in entrant.scores]
    assert len(set(times)) == len(times)
    assert max(times) < 60 * race.selection.minutes
    assert "Selection" in output
