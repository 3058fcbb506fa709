"""Latency before any training: who is excluded, what is measured once, and what a failure means."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import harness
from bench.config import SELECT_RULE, with_overrides
from bench.latency.protocol import SCREENING
from bench.latency.session import Job, SessionResult
from bench.recipes import RECIPES
from bench.records.measurements import Measurement
from bench.runs.plan import Task
from bench.selection.latency import screening
from bench.selection.latency.exporting import Exported, ExportTask, export_untrained
from bench.selection.records import Entrant
from imgcls.config import RuntimeConfig
from imgcls.errors import ConfigError
from imgcls.inference.runtimes import ONNX, open_session
from tests.helpers.latency_rows import row

RUNTIME = "onnxruntime-cpu"

Screen = Callable[..., list[Entrant]]


@pytest.fixture
def tasks(photos: Path, weights: Path, tmp_path: Path) -> list[Task]:
    configs = []
    for model in ("test_efficientnet", "test_resnet", "test_vit"):
        sized = with_overrides(RECIPES["finetune"](model), {"image_size": 32, "precision": "fp32"})
        configs.append(replace(sized, budget=replace(sized.budget, image_size=None, rule=SELECT_RULE)))
    plan = harness.planner(configs, data=str(photos), weights=str(weights), results=tmp_path / "results")
    return [plan(config) for config in configs]


@pytest.fixture
def measured(tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a function that screens with latencies that are given, in ms, and exports nothing.

    ``again`` are those of the longer measurement.
    """

    def screen(
        speeds: dict[str, float],
        *,
        exported: list[str] | None = None,
        limit_ms: float | None = None,
        again: dict[str, float] | None = None,
        **changes: object,
    ) -> list[Entrant]:
        def export(task: ExportTask) -> Exported:
            (exported if exported is not None else []).append(task.spec.name)
            task.folder.mkdir(parents=True)
            (task.folder / ONNX).write_bytes(task.spec.name.encode())
            if task.spec.name not in speeds:
                return Exported(error="RuntimeError: no such operator")
            return Exported(forward_s=0.001, num_params=1, gmacs=0.1)

        def carry_out(job: Job) -> SessionResult:
            given = speeds if job.protocol == SCREENING else (again or {})
            rows: dict[str, list[Measurement]] = {}
            for model in job.models:
                name = next(name for name in given if model.name.startswith(name))
                rows[model.subject.train_id] = [row(RUNTIME, speed=given[name], **changes)]
            return SessionResult(rows=rows)

        monkeypatch.setattr(screening.session, "carry_out", carry_out)
        named = [Entrant(number=n, model=task.config.model, image_size=32) for n, task in enumerate(tasks)]
        config = RuntimeConfig(runtimes=(RUNTIME,), threads=1)
        return screening.screen(named, tasks, config, export=export, limit_ms=limit_ms)

    return screen


SPEEDS = {"test_efficientnet": 1.0, "test_resnet": 10.0, "test_vit": 30.0}


def _reasons(entrants: list[Entrant]) -> list[str | None]:
    return [entrant.left.reason if entrant.left else None for entrant in entrants]


def test_only_those_whose_interval_lies_above_the_limit_leave_without_another_measurement(measured: Screen) -> None:
    exported: list[str] = []
    latency = measured(SPEEDS)[1].latency
    assert latency is not None
    assert latency.low is not None

    left = measured(SPEEDS, limit_ms=latency.low * 0.99, exported=exported)

    assert _reasons(left) == [None, "latency", "latency"]
    assert exported == []


@pytest.mark.parametrize(("speed", "reason"), [(5.0, None), (13.0, "latency")])
def test_one_near_the_limit_is_measured_for_longer_and_decided_by_that(
    speed: float, reason: str | None, measured: Screen
) -> None:
    exported: list[str] = []
    latency = measured(SPEEDS)[1].latency
    assert latency is not None
    assert latency.low is not None
    limit_ms = (latency.low + latency.value) / 2

    decided = measured(SPEEDS, limit_ms=limit_ms, again={"test_resnet": speed}, exported=exported)

    assert _reasons(decided) == [None, reason, "latency"]
    assert exported == ["test_resnet"]


def test_a_limit_that_nobody_meets_names_the_fastest(measured: Screen) -> None:
    with pytest.raises(ConfigError, match=r"=0\.001: no candidate is as fast; .* test_efficientnet, 32 px"):
        measured(SPEEDS, limit_ms=0.001)


def test_a_network_is_measured_once(measured: Screen) -> None:
    first: list[str] = []
    second: list[str] = []

    before = measured(SPEEDS, exported=first)
    after = measured(SPEEDS, exported=second)

    assert first == list(SPEEDS)
    assert second == []
    assert after == before


def test_a_disturbed_measurement_excludes_nobody_and_is_repeated(measured: Screen) -> None:
    exported: list[str] = []

    entrants = measured(SPEEDS, validity="invalid", reason="other processes: up to 50 %", limit_ms=0.001)
    measured(SPEEDS, exported=exported)

    assert [entrant.latency for entrant in entrants] == [None] * 3
    assert _reasons(entrants) == [None] * 3
    assert exported == list(SPEEDS)


def test_a_network_that_cannot_be_exported_has_failed_with_its_reason(measured: Screen) -> None:
    entrants = measured({name: SPEEDS[name] for name in ("test_efficientnet", "test_vit")})

    left = entrants[1].left
    assert left is not None
    assert (left.reason, left.text) == ("failed", "RuntimeError: no such operator")
    assert [entrant.left is None for entrant in entrants] == [True, False, True]


def test_an_export_is_a_network_that_runs_and_its_costs(tasks: list[Task], tmp_path: Path) -> None:
    task = ExportTask(
        spec=tasks[0].spec, class_names=tasks[0].dataset.class_names, folder=tmp_path / "net", device="cpu", threads=1
    )

    exported = export_untrained(task)

    assert exported.error is None
    assert exported.forward_s > 0
    assert exported.num_params > 10_000
    assert open_session(RUNTIME, task.folder, threads=1).settings is not None


def test_a_runtime_that_needs_trained_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="untrained networks are measured in float32"):
        screening.require_screenable("onnxruntime-cpu-int8")
