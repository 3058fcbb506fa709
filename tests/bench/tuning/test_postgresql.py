"""Studies in a real PostgreSQL server of Debian, started here; skipped if it is not installed."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from bench.tuning.conversion import records
from bench.tuning.storage import locked, open_storage, quiet
from tests.helpers.commands import command_lines_of_children, start
from tests.helpers.images import MakeFolder
from tests.helpers.postgresql import INSTALLED, Server

PASSWORD = "Hunter2"  # noqa: S105 - no secret
pytestmark = pytest.mark.skipif(not INSTALLED, reason="no PostgreSQL server is installed (Debian: postgresql)")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server() as server:
        yield server.url


def test_commands_join_one_study_on_a_server(url: str, make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    tiny = ("--recipe", "quick", "--weights", "none", "--image-size", "32")
    # The server trusts every password: here it is looked for afterwards.
    storage = url.replace("bench@", f"bench:{PASSWORD}@")
    flags = ("--data", str(root), *tiny, "--trials", "6", "--storage", storage)
    machines = [
        start("sweep", "test_efficientnet", *flags, "--results", str(tmp_path / name)) for name in ("here", "there")
    ]
    lines = command_lines_of_children(machines[0].pid)
    outputs = [process.communicate(timeout=300)[0] for process in machines]
    assert [process.returncode for process in machines] == [0, 0], outputs
    quiet()
    store = open_storage(url)
    (name,) = optuna.get_all_study_names(store)
    trials = records(optuna.load_study(study_name=name, storage=store))
    store.engine.dispose()
    assert sum(trial.state in {"complete", "pruned"} for trial in trials) == 6
    assert sum(trial.is_default for trial in trials) == 1
    assert all((tmp_path / machine / "sweeps" / f"{name}.json").exists() for machine in ("here", "there"))
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in written)
    assert not any(PASSWORD in text for text in (*outputs, *lines))
    assert any("bench.tuning.worker" in line for line in lines)
    assert not (tmp_path / "here" / "sweeps" / "studies.db").exists()


def test_study_lock_holds_across_connections(url: str) -> None:
    first, second = open_storage(url), open_storage(url)
    ask = "SELECT pg_try_advisory_lock(hashtext('one study'))"
    with locked(first, "one study"), second.engine.connect() as other:
        assert other.exec_driver_sql(ask).scalar() is False
        assert other.exec_driver_sql(ask.replace("one", "another")).scalar() is True
    with second.engine.connect() as other:
        assert other.exec_driver_sql(ask).scalar() is True
    first.engine.dispose()
    second.engine.dispose()
