"""The anchor of a session is compared with those of earlier sessions' records, through ``measure_all``."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench.latency import measure, session
from bench.latency.protocol import PROTOCOL_VERSION
from bench.latency.round_worker import RoundTask, Timed
from bench.records import locks
from bench.records.measurements import Measurement, Round
from bench.records.store import read_records, record_path, write_json
from tests.helpers.examples import ENVIRONMENT, disturbance, measurement, record
from tests.helpers.measuring import measured, trained


@pytest.fixture
def present_ms(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The anchor time of the present session, whose measuring processes are simulated."""
    anchor_ms: list[float] = []

    def stand_in(command: list[str], tell: Callable[[bytes], None]) -> int:
        task = msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask)
        for subject in task.subjects:
            row = Timed(
                train_id=subject.train_id,
                kind="host",
                batch_size=1,
                num_threads=1,
                samples_ms=(10.0,) * 64,
                disturbance=disturbance(anchor_ms=anchor_ms[0]),
            )
            tell(json.dumps(msgspec.to_builtins(row)).encode() + b"\n")
        return 0

    monkeypatch.setattr(session, "launch", stand_in)
    monkeypatch.setattr(session, "to_check", lambda _protocol, _runtime: False)
    monkeypatch.setattr(measure, "read_environment", lambda: ENVIRONMENT)
    monkeypatch.setattr(locks, "machine_alone", lambda **_kwargs: contextlib.nullcontext())
    monkeypatch.setattr(locks, "machine_shared", lambda **_kwargs: contextlib.nullcontext())
    return anchor_ms


def earlier(results: Path, number: int, seen_ms: float, rng: np.random.Generator) -> None:
    """Write the record of an earlier session, whose own reference was 30 % lower than usual."""
    seen = seen_ms * rng.normal(1, 0.005, 5)
    parts = [
        Round(number=part, num_queries=64, kept=64, cpu_share=None, disturbance=disturbance(anchor_ms=float(anchor_ms)))
        for part, anchor_ms in enumerate(seen)
    ]
    when = f"2026-01-{number + 1:02d}T00:00:00+00:00"
    row = replace(measurement("onnxruntime-cpu"), rounds=tuple(parts), anchor_ms=1.4, session_id=when, measured_at=when)
    made = record(run_id=f"earlier-{number}", train_id=f"earlier-{number}", measurements=(row,))
    write_json(made, record_path(results, made))


def measured_row(results: Path) -> Measurement:
    made = trained(results)
    assert measured(made, results)
    (found,) = (one for one in read_records(results) if one.run_id == made.run_id)
    (row,) = found.measurements
    assert row.protocol_version == PROTOCOL_VERSION
    return row


@pytest.mark.parametrize("fast", range(0, 10, 3))
def test_one_fast_session_marks_no_other(tmp_path: Path, present_ms: list[float], fast: int) -> None:
    rng = np.random.default_rng(fast)
    for number in range(10):
        earlier(tmp_path, number, 1.4 if number == fast else 2.0, rng)
    present_ms.append(2.0)
    row = measured_row(tmp_path)
    assert (row.validity, row.reason) == ("valid", None)
    assert row.anchor_ms == pytest.approx(2.0, rel=0.02)


def test_session_slower_than_recent_is_noisy(tmp_path: Path, present_ms: list[float]) -> None:
    rng = np.random.default_rng(0)
    for number in range(10):
        earlier(tmp_path, number, 2.0, rng)
    present_ms.append(2.2)
    row = measured_row(tmp_path)
    assert row.validity == "noisy"
    assert "the machine itself was 1.1" in str(row.reason)


def test_reference_follows_a_slower_machine(tmp_path: Path, present_ms: list[float]) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        earlier(tmp_path, number, 2.0 if number < 10 else 2.4, rng)
    present_ms.append(2.4)
    assert measured_row(tmp_path).validity == "valid"


def test_records_are_read_once(tmp_path: Path, present_ms: list[float], caplog: pytest.LogCaptureFixture) -> None:
    present_ms.append(2.0)
    made = trained(tmp_path)
    record_path(tmp_path, made).with_name("cut.json").write_text("{")
    assert measured(made, tmp_path)
    assert caplog.text.count("cut.json") == 1
