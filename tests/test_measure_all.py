"""What ``measure_all`` does under which lock of the machine."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import harness, locks, progress, rounds
from bench.config import Paths
from bench.records import OUTCOME, RunRecord, record_path, write_json
from imgcls.config import RuntimeConfig
from tests.examples import ENVIRONMENT, SHORT, record

RUNTIME = RuntimeConfig(runtimes=("onnxruntime-cpu",), threads=1)
PROTOCOL = replace(SHORT, rounds=5, batch_sizes=(), files=False)


def trained(results: Path) -> RunRecord:
    """Write a record with artifacts, as a run leaves them."""
    made = record(run_id="present", train_id="present", measurements=())
    write_json(made, record_path(results, made))
    folder = results / "artifacts" / made.train_id
    folder.mkdir(parents=True)
    (folder / OUTCOME).touch()
    return made


def measure(made: RunRecord, home: Path) -> bool:
    paths = Paths(results=home, cache=home / "cache")
    return harness.measure_all([made], paths, Console(quiet=True), protocol=PROTOCOL, runtime=RUNTIME)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``measure_all`` does, in order; nothing is carried out."""
    seen: list[str] = []

    def tell(name: str, answer: Any = None) -> Callable[..., Any]:
        def stand_in(*_args: object, **_kwargs: object) -> Any:
            seen.append(name)
            return answer

        return stand_in

    def around(name: str) -> Callable[..., contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def stand_in(*args: object, **_kwargs: object) -> Iterator[None]:
            title = f" {args[1]!r}" if args else ""
            seen.append(f"{name}{title}")
            yield
            seen.append(f"end {name}")

        return stand_in

    monkeypatch.setattr(progress, "waiting", around("title"))
    monkeypatch.setattr(locks, "machine_shared", around("shared"))
    monkeypatch.setattr(locks, "machine_alone", around("alone"))
    monkeypatch.setattr(harness, "find_pictures", tell("find pictures", "none here"))
    monkeypatch.setattr(harness, "read_environment", tell("read environment", ENVIRONMENT))
    monkeypatch.setattr(rounds, "make_job", tell("make job"))
    monkeypatch.setattr(rounds, "carry_out", tell("carry out", rounds.Found()))
    return seen


def test_all_is_prepared_beside_others_and_only_the_rounds_are_alone(tmp_path: Path, events: list[str]) -> None:
    assert measure(trained(tmp_path), tmp_path)
    steps = [event for event in events if "title" not in event]
    prepared = ["find pictures", "make job"]
    assert steps == ["read environment", "shared", *prepared, "end shared", "alone", "carry out", "end alone"]


def test_the_title_says_waiting_until_the_machine_is_held(tmp_path: Path, events: list[str]) -> None:
    measure(trained(tmp_path), tmp_path)
    began = len(events) - 1 - events[::-1].index("title 'waiting to measure'")
    assert events[began:] == ["title 'waiting to measure'", "alone", "end title", "carry out", "end alone"]
