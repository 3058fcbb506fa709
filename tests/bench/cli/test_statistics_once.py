"""What the commands that train do around their runs, without any training."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bench import harness
from bench.cli import training
from bench.comparison import analysis
from bench.records.paths import Paths
from tests.helpers.boards import keep, some_right
from tests.helpers.examples import ENVIRONMENT


def test_run_all_works_out_the_leaderboard_once_and_prints_the_tables_of_its_own_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = (keep(tmp_path, model, some_right(share)) for model, share in (("a", 0.9), ("b", 0.5)))
    keep(tmp_path, "elsewhere", some_right(0.7), init="pretrained")
    comparison: list[object] = []
    find = analysis.find

    def counted(table: analysis.Table) -> analysis.Comparison:
        comparison.append(table.key)
        return find(table)

    monkeypatch.setattr("bench.comparison.analysis.find", counted)
    monkeypatch.setattr(harness, "remember_place", lambda _task: None)
    monkeypatch.setattr(harness, "_waiting", lambda _records, _machine: [])
    task: Any = SimpleNamespace(
        environment=ENVIRONMENT,
        dataset=SimpleNamespace(missing=()),
        paths=Paths(results=tmp_path, cache=tmp_path),
        run_id=ours.run_id,
    )
    console = Console(file=io.StringIO(), width=200)
    assert training._carry_out([task], console, lambda _tasks: [ours]) == 0
    assert len(comparison) == len(set(comparison)) == 1
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "written: " in printed
    assert "a has the highest accuracy" in printed
