"""The steps of ``measure_all`` under each lock of the machine."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import main
from bench.config import with_overrides
from bench.latency import measure, session
from bench.recipes import RECIPES
from bench.records import locks
from bench.records.environment import read_environment
from bench.records.paths import OUTCOME
from bench.records.schema import RunRecord
from bench.records.store import record_path, write_json
from tests.helpers.examples import ENVIRONMENT, measurement, record
from tests.helpers.latency_rows import row
from tests.helpers.measuring import measured, trained


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of ``measure_all``, in order; none is carried out."""
    seen: list[str] = []

    def tell(name: str, answer: Any = None) -> Callable[..., Any]:
        def stand_in(*_args: object, **_kwargs: object) -> Any:
            seen.append(name)
            return answer

        return stand_in

    def around(name: str) -> Callable[..., contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def stand_in(*_args: object, **_kwargs: object) -> Iterator[None]:
            seen.append(name)
            yield
            seen.append(f"end {name}")

        return stand_in

    monkeypatch.setattr(locks, "machine_shared", around("shared"))
    monkeypatch.setattr(locks, "machine_alone", around("alone"))
    monkeypatch.setattr(measure, "find_images", tell("find images"))
    monkeypatch.setattr(measure, "read_environment", tell("read environment", ENVIRONMENT))
    monkeypatch.setattr(session, "make_job", tell("make job"))
    monkeypatch.setattr(session, "carry_out", tell("carry out", session.SessionResult()))
    return seen


def test_only_rounds_hold_the_exclusive_lock(tmp_path: Path, events: list[str]) -> None:
    assert measured(trained(tmp_path), tmp_path)
    prepared = ["find images", "make job"]
    assert events == ["read environment", "shared", *prepared, "end shared", "alone", "carry out", "end alone"]


def test_measure_takes_one_run_of_each_network_and_every_run_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain setting of the first seed. Another image size is another network; other epochs are another table."""
    plain = RECIPES["quick"]("resnet50")
    configs = {
        "tuned": with_overrides(plain, {"lr": 0.1}),
        "second": replace(plain, seed=1),
        "first": plain,
        "large": with_overrides(plain, {"image_size": 96}),
        "longer": with_overrides(plain, {"epochs": 9}),
    }
    for name, config in configs.items():
        made = record(run_id=name, train_id=name, config=config)
        assert made.outcome is not None
        size = config.loader.image_size
        outcome = replace(made.outcome, model=replace(made.outcome.model, image_size=size))
        write_json(replace(made, outcome=outcome), record_path(tmp_path, made))
        (tmp_path / "artifacts" / name).mkdir(parents=True)
        (tmp_path / "artifacts" / name / OUTCOME).touch()
    chosen: list[list[str]] = []

    def stand_in(records: list[RunRecord], *_args: object, **_kwargs: object) -> measure.Measured:
        chosen.append(sorted(each.run_id for each in records))
        return measure.Measured(rows=(), ok=True)

    monkeypatch.setattr(measure, "measure_all", stand_in)
    assert main(["measure", "--results", str(tmp_path)]) == 0
    assert main(["measure", "--results", str(tmp_path), "--every-run"]) == 0
    assert chosen == [["first", "large", "longer"], sorted(configs)]


def test_measure_repeats_the_run_that_has_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the network would have two figures of the full protocol."""
    machine = replace(ENVIRONMENT, machine=read_environment().machine)
    for seed, rows in enumerate([(measurement(),), (row("pytorch-cpu"),)]):
        config = replace(RECIPES["quick"]("resnet50"), seed=seed)
        made = record(run_id=f"s{seed}", train_id=f"s{seed}", config=config, environment=machine, measurements=rows)
        write_json(made, record_path(tmp_path, made))
    chosen: list[str] = []

    def stand_in(records: list[RunRecord], *_args: object, **_kwargs: object) -> measure.Measured:
        chosen.extend(each.run_id for each in records)
        return measure.Measured(rows=(), ok=True)

    monkeypatch.setattr(measure, "measure_all", stand_in)
    assert main(["measure", "--results", str(tmp_path)]) == 0
    assert chosen == ["s1"]
