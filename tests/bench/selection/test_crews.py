"""Crews: how many forms are trained at a time, when the next one is taken, and what a killed process means."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.processes.forking import ForkServer
from bench.selection.crews.here import crew_here, side_by_side
from bench.selection.forms import Form, FormTask, Stage


def _form(number: int, **task: Any) -> FormTask:
    return FormTask(number=number, task=cast("Any", SimpleNamespace(**task)), stage=Stage())


@pytest.mark.parametrize("jobs", [1, 3])
def test_so_many_forms_are_trained_at_a_time_and_each_is_yielded_once(jobs: int) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def run(form: FormTask) -> Form:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        threading.Event().wait(0.02)
        with lock:
            busy -= 1
        return Form(right=f"{form.number:02x}")

    results = list(side_by_side(map(_form, range(8)), run, jobs))

    assert sorted(form.number for form, _, _ in results) == list(range(8))
    assert all(result.right == f"{form.number:02x}" for form, result, _ in results)
    assert all(seconds >= 0.02 for _, _, seconds in results)
    assert most == jobs


def test_the_next_form_is_taken_when_it_can_begin() -> None:
    taken: list[int] = []
    ended: list[int] = []

    def forms() -> Iterator[FormTask]:
        for number in range(6):
            # With two at a time, all but one of those before it have ended.
            assert len(ended) >= number - 1
            taken.append(number)
            yield _form(number)

    def run(form: FormTask) -> Form:
        ended.append(form.number)
        return Form()

    assert len(list(side_by_side(forms(), run, 2))) == 6
    assert taken == list(range(6))


def test_an_error_of_the_forms_ends_the_crew() -> None:
    def forms() -> Iterator[FormTask]:
        yield _form(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(forms(), lambda _form: Form(), 2))


def test_a_killed_process_is_a_failed_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ForkServer, "run", lambda *_arguments, **_threads: -9)
    monkeypatch.setattr("bench.selection.crews.here.write_task", lambda _form, path: path.touch())
    paths = SimpleNamespace(task=lambda name: tmp_path / name)
    train = SimpleNamespace(threads_per_device=1)
    form = _form(0, train_id="t", paths=paths, config=SimpleNamespace(train=train))

    with crew_here(1, "cpu") as crew:
        ((_, result, _),) = crew(iter([form]))

    assert "killed by signal 9" in (result.error or "")
    assert not list(tmp_path.iterdir())
