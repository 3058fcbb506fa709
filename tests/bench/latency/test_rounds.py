"""A whole measurement: rotated rounds, kills, memory, a busy neighbour, and going on where it stopped."""

import json
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.latency import measuring, rounds
from bench.latency.measuring import Begun, RoundTask, Subject, Timed
from bench.latency.protocol import Protocol
from bench.latency.rounds import Job, Model, carry_out, make_job
from imgcls.config import RuntimeConfig
from imgcls.data.parallel import usable_cores
from imgcls.inference.card import read_card
from imgcls.inference.runtimes import ONNX, RUNTIMES
from imgcls.inference.session import Images, Logits, Session
from imgcls.models.weights import sha256_of
from tests.helpers.examples import SHORT, disturbance

RUNTIME = "onnxruntime-cpu"


def job(tmp_path: Path, artifacts: Path, protocol: Protocol, names: tuple[str, ...] = ("a", "b", "c")) -> Job:
    models = [
        Model(
            subject=Subject(train_id=name, folder=str(artifacts), image_size=32),
            name=name,
            onnx_sha256=sha256_of(artifacts / ONNX),
            pictures=None,
        )
        for name in names
    ]
    config = RuntimeConfig(runtimes=(RUNTIME,), threads=1)
    return make_job(models, config, protocol, folder=tmp_path, commit=None, earlier_anchors_ms=())


def answers(task: RoundTask, tell: Callable[[bytes], None], *, until: str | None = None) -> int:
    """Stand in for the measuring process; where it comes to ``until`` at batch 8, it is killed."""
    for subject in task.subjects:
        for batch_size in (1, 8):
            begun = Begun(begun=subject.train_id, kind="host", batch_size=batch_size)
            tell(json.dumps(msgspec.to_builtins(begun)).encode() + b"\n")
            if (subject.train_id, batch_size) == (until, 8):
                return -9
            row = Timed(
                train_id=subject.train_id,
                kind="host",
                batch_size=batch_size,
                provider="CPUExecutionProvider",
                precision="fp32",
                num_threads=1,
                settings={},
                samples_ms=(10.0,) * 64,
                cpu_share=0.99,
                disturbance=disturbance(),
            )
            tell(json.dumps(msgspec.to_builtins(row)).encode() + b"\n")
    return 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RoundTask]:
    """The tasks that measuring processes were started with; the processes themselves are made up."""
    tasks: list[RoundTask] = []

    def stand_in(command: list[str], tell: Callable[[bytes], None]) -> int:
        tasks.append(msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask))
        return answers(tasks[-1], tell)

    monkeypatch.setattr(rounds, "launch", stand_in)
    monkeypatch.setattr(rounds, "to_check", lambda _protocol, _runtime: False)
    return tasks


def test_every_round_is_one_process_that_visits_all_models_in_a_turned_order(
    tmp_path: Path, artifacts: Path, asked: list[RoundTask]
) -> None:
    found = carry_out(job(tmp_path, artifacts, replace(SHORT, rounds=5)))
    orders = ["".join(subject.train_id for subject in task.subjects) for task in asked]
    assert orders == ["abc", "bca", "cab", "abc", "bca"]
    assert {row.num_queries for rows in found.rows.values() for row in rows} == {320}
    assert [part.number for part in found.rows["a"][0].rounds] == [0, 1, 2, 3, 4]


def test_an_interrupted_measurement_goes_on_with_the_rounds_that_are_missing(
    tmp_path: Path, artifacts: Path, asked: list[RoundTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(tmp_path, artifacts, replace(SHORT, rounds=5))
    stand_in = rounds.launch

    def interrupted(command: list[str], tell: Callable[[bytes], None]) -> int:
        if len(asked) == 3:
            raise KeyboardInterrupt
        return stand_in(command, tell)

    monkeypatch.setattr(rounds, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(work)
    monkeypatch.setattr(rounds, "launch", stand_in)
    found = carry_out(work)
    assert len(asked) == 5
    assert len(found.rows["a"][0].rounds) == 5
    assert not work.folder.exists()


def test_a_process_that_is_killed_at_a_batch_keeps_the_smaller_ones_and_the_other_models(
    tmp_path: Path, artifacts: Path, asked: list[RoundTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(command: list[str], tell: Callable[[bytes], None]) -> int:
        asked.append(msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask))
        return answers(asked[-1], tell, until="b")

    monkeypatch.setattr(rounds, "launch", killed)
    found = carry_out(job(tmp_path, artifacts, replace(SHORT, rounds=1)))
    by_batch = {row.batch_size: row for row in found.rows["b"]}
    assert by_batch[1].samples_ms
    assert by_batch[8].status == "failed"
    assert "killed by signal 9" in str(by_batch[8].reason)
    assert "at batch 8" in str(by_batch[8].reason)
    assert [row.batch_size for row in found.rows["c"] if row.samples_ms] == [1, 8]


def test_a_batch_that_does_not_fit_in_memory_is_told_and_the_smaller_ones_are_kept(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(images: Images) -> Logits:
        if len(images) >= 32:
            message = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            raise RuntimeError(message)
        return np.zeros((len(images), 3), dtype=np.float32)

    session = Session(run=run, provider="cpu", precision="fp32", num_threads=1)
    monkeypatch.setattr(measuring, "open_session", lambda *_args, **_kwargs: session)
    protocol = replace(SHORT, batch_sizes=(8, 32, 128), files=False)
    subject = Subject(train_id="a", folder=str(artifacts), image_size=32)
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=protocol)
    rows = list(measuring._rows(task, subject, lambda _line: None))
    assert [(row.batch_size, row.reason) for row in rows] == [
        (1, None),
        (8, None),
        (32, "batch 32 does not fit in memory"),
    ]


def test_the_way_from_a_file_to_a_label_is_timed_with_its_parts(artifacts: Path, tmp_path: Path) -> None:
    from tests.conftest import picture

    picture(0, size=200).save(tmp_path / "0.jpg")
    subject = Subject(
        train_id="a",
        folder=str(artifacts),
        image_size=32,
        files=(str(tmp_path / "0.jpg"),),
        card=read_card(artifacts / ONNX),
    )
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=SHORT)
    row = next(row for row in measuring._rows(task, subject, lambda _line: None) if row.kind == "file")
    assert row.parts_ms is not None
    assert list(row.parts_ms) == ["decode", "resize", "normalise", "infer"]
    together = sum(np.array(samples) for samples in row.parts_ms.values())
    assert np.median(np.array(row.samples_ms) - together) < 0.1
    assert (together <= np.array(row.samples_ms)).all()


def test_a_picture_that_cannot_be_read_any_more_spoils_only_the_row_of_files(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").write_text("no picture")
    subject = Subject(
        train_id="a",
        folder=str(artifacts),
        image_size=32,
        files=(str(tmp_path / "gone.jpg"),),
        card=read_card(artifacts / ONNX),
    )
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=SHORT)
    rows = list(measuring._rows(task, subject, lambda _line: None))
    assert [(row.kind, row.batch_size, row.reason is None) for row in rows] == [
        ("host", 1, True),
        ("file", 1, False),
        ("host", 8, True),
    ]


LOADED = """
import json, sys
from pathlib import Path
from bench.latency.worker import measure
measure(Path(sys.argv[1]), print)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("runtime", "others"),
    [
        ("pytorch-cpu", {"onnxruntime", "onnx", "openvino", "rich"}),
        ("onnxruntime-cpu", {"torch", "timm", "onnx", "openvino", "rich"}),
    ],
)
def test_a_measuring_process_loads_nothing_that_it_does_not_time(
    runtime: str, others: set[str], artifacts: Path, tmp_path: Path
) -> None:
    from tests.conftest import picture

    picture(0, size=200).save(tmp_path / "0.jpg")
    card = read_card(artifacts / ONNX)
    subject = Subject(train_id="a", folder=str(artifacts), image_size=32, files=(str(tmp_path / "0.jpg"),), card=card)
    task = RoundTask(runtime=runtime, subjects=(subject,), threads=1, protocol=SHORT)
    (tmp_path / "task.json").write_bytes(msgspec.json.encode(task))
    command = [sys.executable, "-c", LOADED, str(tmp_path / "task.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "kind='file'" in done.stdout
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert RUNTIMES[runtime].modules[0] in loaded
    assert not others & loaded


def _burn() -> None:
    while True:
        pass


@contextmanager
def busy_neighbours() -> Iterator[None]:
    burners = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(usable_cores())]
    for burner in burners:
        burner.start()
    time.sleep(1)
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()


def test_beside_a_cpu_burner_no_valid_row_is_off_by_more_than_5_per_cent(tmp_path: Path, artifacts: Path) -> None:
    protocol = replace(SHORT, rounds=5, duration_s=2.0, batch_sizes=())
    quiet = carry_out(job(tmp_path, artifacts, protocol, ("a",))).rows["a"][0]
    with busy_neighbours():
        busy = carry_out(job(tmp_path, artifacts, protocol, ("a",))).rows["a"][0]
    off = abs(statistics.median(busy.samples_ms) / statistics.median(quiet.samples_ms) - 1)
    assert statistics.median(part.disturbance.others_share for part in busy.rounds) > 0.3
    assert busy.validity != "valid" or off <= 0.05
    assert busy.validity == "invalid"
    assert "other processes" in str(busy.reason)


def test_a_model_that_fails_its_check_is_not_timed(tmp_path: Path, artifacts: Path) -> None:
    work = job(tmp_path, artifacts, replace(SHORT, rounds=2, batch_sizes=()), ("a",))
    wrong = replace(work.models[0], onnx_sha256="0" * 64)
    found = carry_out(replace(work, models=(wrong,)))
    (row,) = found.rows["a"]
    assert (row.status, row.samples_ms) == ("failed", ())
    assert "the run exported 0000" in str(row.reason)


def test_no_cuda_device_reads_not_measured(tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    work = job(tmp_path, artifacts, replace(SHORT, rounds=1, batch_sizes=()), ("a",))
    cuda = replace(work, config=RuntimeConfig(runtimes=("pytorch-cuda",), threads=1))
    found: Any = carry_out(cuda)
    assert [(row.status, row.reason) for row in found.rows["a"]] == [("not measured", "no CUDA device")]
