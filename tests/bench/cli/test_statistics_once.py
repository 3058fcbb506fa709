"""What run-all does after its runs, with planning and training replaced."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import harness
from bench.cli import run
from bench.cli.main import main
from bench.comparison import analysis
from bench.records.paths import Paths
from tests.helpers.boards import keep, some_right
from tests.helpers.examples import ENVIRONMENT


def test_run_all_computes_the_statistics_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It also prints only the table of its own runs, although the results folder contains another one."""
    ours, _ = (keep(tmp_path, model, some_right(share)) for model, share in (("a", 0.9), ("b", 0.5)))
    keep(tmp_path, "elsewhere", some_right(0.7), init="pretrained")
    task = SimpleNamespace(
        config=ours.config,
        environment=ENVIRONMENT,
        dataset=SimpleNamespace(missing=()),
        paths=Paths(results=tmp_path, cache=tmp_path),
        run_id=ours.run_id,
        train_id="none",
        data="pets",
    )
    launcher = SimpleNamespace(
        train=lambda _tasks: [ours], run_threads=0, cuda=False, devices=None, decide=None, store=None
    )
    monkeypatch.setattr(harness, "planner", lambda *_args, **_kwargs: lambda _config, **_kwargs: task)
    monkeypatch.setattr(run, "launcher_of", lambda _args: nullcontext(launcher))
    compared: list[object] = []
    find = analysis.find

    def counted(table: analysis.Table) -> analysis.Comparison:
        compared.append(table.key)
        return find(table)

    monkeypatch.setattr(analysis, "find", counted)
    assert main(["run-all", "--models", "a", "--results", str(tmp_path)]) == 0
    assert len(compared) == len(set(compared)) == 1
    printed = capsys.readouterr().out
    assert "written: " in printed
    assert "a has the highest accuracy" in printed
