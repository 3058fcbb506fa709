"""The steps of ``measure_all`` under each lock of the machine."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.latency import measure, rounds
from bench.records import locks
from tests.helpers.examples import ENVIRONMENT
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
    monkeypatch.setattr(rounds, "make_job", tell("make job"))
    monkeypatch.setattr(rounds, "carry_out", tell("carry out", rounds.SessionResult()))
    return seen


def test_only_rounds_hold_the_exclusive_lock(tmp_path: Path, events: list[str]) -> None:
    assert measured(trained(tmp_path), tmp_path)
    prepared = ["find images", "make job"]
    assert events == ["read environment", "shared", *prepared, "end shared", "alone", "carry out", "end alone"]
