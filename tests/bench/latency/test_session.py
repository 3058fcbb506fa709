"""Whole measurements: order of rounds, kills, lack of memory, busy processes, and resuming."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from bench.latency import protocol as timing
from bench.latency import round_worker, session
from bench.latency.protocol import Protocol
from bench.latency.round_worker import Begun, RoundTask, Subject, Timed
from bench.latency.session import Job, Model, carry_out, make_job
from bench.latency.worker import LOST_DEVICE
from imgcls.config import RuntimeConfig
from imgcls.inference.card import read_card
from imgcls.inference.runtimes import ONNX, RUNTIMES, open_session
from imgcls.inference.session import Images, Logits, Session
from imgcls.models.weights import sha256_of
from tests.helpers.examples import SHORT, disturbance
from tests.helpers.gpus import Machine
from tests.helpers.images import smooth_image
from tests.helpers.waiting import busy_processes

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


def timed_rows(task: RoundTask) -> list[Timed]:
    """Time a round in this process and return its rows."""
    sent: list[Begun | Timed] = []
    round_worker.run_round(task, sent.append)
    return [row for row in sent if isinstance(row, Timed)]


def simulate(
    task: RoundTask, tell: Callable[[bytes], None], *, until: str | None = None, lost: str | None = None
) -> int:
    """Simulate the measuring process: killed at batch 8 of the model ``until``, or without its device from there on."""
    for subject in task.subjects:
        for batch_size in (1, 8):
            begun = Begun(begun=subject.train_id, kind="host", batch_size=batch_size)
            tell(json.dumps(msgspec.to_builtins(begun)).encode() + b"\n")
            if (subject.train_id, batch_size) == (until, 8):
                return -9
            if (subject.train_id, batch_size) == (lost, 8):
                last = Timed(train_id=str(lost), kind="host", batch_size=8, reason="CUDA error: lost", device_lost=True)
                tell(json.dumps(msgspec.to_builtins(last)).encode())
                return LOST_DEVICE
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
    """The tasks of the measuring processes, which are simulated."""
    tasks: list[RoundTask] = []

    def stand_in(command: list[str], tell: Callable[[bytes], None]) -> int:
        tasks.append(msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask))
        return simulate(tasks[-1], tell)

    monkeypatch.setattr(session, "launch", stand_in)
    monkeypatch.setattr(session, "to_check", lambda _protocol, _runtime: False)
    return tasks


def test_rounds_rotate_the_order_of_models(tmp_path: Path, artifacts: Path, asked: list[RoundTask]) -> None:
    found = carry_out(job(tmp_path, artifacts, replace(SHORT, rounds=5)))
    orders = ["".join(subject.train_id for subject in task.subjects) for task in asked]
    assert orders == ["abc", "bca", "cab", "abc", "bca"]
    assert {row.num_queries for rows in found.rows.values() for row in rows} == {320}
    assert [part.number for part in found.rows["a"][0].rounds] == [0, 1, 2, 3, 4]


def test_interrupted_measurement_is_resumed(
    tmp_path: Path, artifacts: Path, asked: list[RoundTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(tmp_path, artifacts, replace(SHORT, rounds=5))
    stand_in = session.launch

    def interrupted(command: list[str], tell: Callable[[bytes], None]) -> int:
        if len(asked) == 3:
            raise KeyboardInterrupt
        return stand_in(command, tell)

    monkeypatch.setattr(session, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        carry_out(work)
    monkeypatch.setattr(session, "launch", stand_in)
    found = carry_out(work)
    assert len(asked) == 5
    assert len(found.rows["a"][0].rounds) == 5
    assert not work.folder.exists()


def test_killed_process_keeps_completed_rows(
    tmp_path: Path, artifacts: Path, asked: list[RoundTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(command: list[str], tell: Callable[[bytes], None]) -> int:
        asked.append(msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask))
        return simulate(asked[-1], tell, until="b")

    monkeypatch.setattr(session, "launch", killed)
    found = carry_out(job(tmp_path, artifacts, replace(SHORT, rounds=1)))
    by_batch = {row.batch_size: row for row in found.rows["b"]}
    assert by_batch[1].samples_ms
    assert by_batch[8].status == "failed"
    assert "killed by signal 9" in str(by_batch[8].reason)
    assert "at batch 8" in str(by_batch[8].reason)
    assert [row.batch_size for row in found.rows["c"] if row.samples_ms] == [1, 8]


def test_out_of_memory_keeps_smaller_batches(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(images: Images) -> Logits:
        if len(images) >= 32:
            message = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            raise RuntimeError(message)
        return np.zeros((len(images), 3), dtype=np.float32)

    session = Session(run=run, provider="cpu", precision="fp32", num_threads=1)
    monkeypatch.setattr(round_worker, "open_session", lambda *_args, **_kwargs: session)
    protocol = replace(SHORT, batch_sizes=(8, 32, 128), files=False)
    subject = Subject(train_id="a", folder=str(artifacts), image_size=32)
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=protocol)
    assert [(row.batch_size, row.reason) for row in timed_rows(task)] == [
        (1, None),
        (8, None),
        (32, "batch 32 does not fit in memory"),
    ]


CUDA = "pytorch-cuda"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("CUDA error: an illegal memory access was encountered", "RuntimeError: CUDA error: an illegal memory access"),
        ("CUDA failure 710: device-side assert triggered", "RuntimeError: CUDA failure 710"),
        ("CUDA error: out of memory", "batch 8 does not fit in memory"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", "batch 8 does not fit in memory"),
        ("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "batch 8 does not fit in memory"),
    ],
)
def test_errors_of_cuda(message: str, reason: str, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After all but a lack of memory, the process cannot time the other models: it ends, and another one goes on."""

    def run(images: Images) -> Logits:
        if len(images) == 8:
            raise RuntimeError(message)
        return np.zeros((len(images), 3), dtype=np.float32)

    Machine(pids=[os.getpid()]).install(monkeypatch)
    session = Session(run=run, provider="cuda", precision="fp32", num_threads=1)
    monkeypatch.setattr(round_worker, "open_session", lambda *_args, **_kwargs: session)
    protocol = replace(SHORT, batch_sizes=(8,), files=False)
    subjects = tuple(Subject(train_id=name, folder=str(artifacts), image_size=32) for name in ("a", "b"))
    sent: list[Begun | Timed] = []
    usable = round_worker.run_round(
        RoundTask(runtime=CUDA, subjects=subjects, threads=1, protocol=protocol), sent.append
    )
    rows = [row for row in sent if isinstance(row, Timed)]
    assert str(rows[1].reason).startswith(reason)
    lost = "memory" not in reason or "illegal" in reason
    assert usable != lost
    assert [row.train_id for row in rows] == (["a", "a"] if lost else ["a", "a", "b", "b"])
    assert rows[0].disturbance is not None
    assert rows[0].disturbance.gpu is not None
    assert rows[0].disturbance.gpu.clock_mhz == 1980


def test_models_after_a_lost_device_are_timed(tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(command: list[str], tell: Callable[[bytes], None]) -> int:
        return simulate(msgspec.json.decode(Path(command[-1]).read_bytes(), type=RoundTask), tell, lost="b")

    monkeypatch.setattr(session, "launch", launched)
    found = carry_out(job(tmp_path, artifacts, replace(SHORT, rounds=1)))
    assert [row.reason for row in found.rows["b"]] == [None, "CUDA error: lost"]
    assert [row.batch_size for row in found.rows["c"] if row.samples_ms] == [1, 8]


def test_rounds_together_reach_the_least_queries(artifacts: Path) -> None:
    protocol = replace(SHORT, rounds=5, min_queries=64, duration_s=0.0, batch_sizes=(), files=False)
    subject = Subject(train_id="a", folder=str(artifacts), image_size=32)
    (row,) = timed_rows(RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=protocol))
    assert len(row.samples_ms) == 13


@pytest.mark.parametrize("change", [{"commit": "b"}, {"protocol": SHORT}, {"config": RuntimeConfig(threads=2)}])
def test_other_code_or_settings_do_not_resume(tmp_path: Path, artifacts: Path, change: dict[str, Any]) -> None:
    models = job(tmp_path, artifacts, SHORT).models
    whole: dict[str, Any] = {"config": RuntimeConfig(threads=1), "protocol": replace(SHORT, rounds=5), "commit": "a"}
    jobs = [
        make_job(models, folder=tmp_path, earlier_anchors_ms=(), **(whole | changed)) for changed in ({}, {}, change)
    ]
    assert [one.folder == jobs[0].folder for one in jobs] == [True, True, False]
    assert make_job(models[:2], folder=tmp_path, earlier_anchors_ms=(), **whole).folder != jobs[0].folder


def test_file_row_times_each_part(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the four parts advance, each by a time of its own."""
    now_s = [0.0]

    def taking(duration_ms: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            now_s[0] += duration_ms / 1e3
            return function(*args, **kwargs)

        return call

    def opened(*args: Any, **kwargs: Any) -> Session:
        real = open_session(*args, **kwargs)
        return replace(real, run=taking(1, real.run))

    clock = SimpleNamespace(perf_counter=lambda: now_s[0], thread_time=lambda: now_s[0])
    monkeypatch.setattr(timing, "time", clock)
    for duration_ms, name in ((4, "decode"), (3, "to_square"), (2, "preprocess")):
        monkeypatch.setattr(round_worker, name, taking(duration_ms, getattr(round_worker, name)))
    monkeypatch.setattr(round_worker, "open_session", opened)
    smooth_image(0, size=200).save(tmp_path / "0.jpg")
    subject = Subject(
        train_id="a",
        folder=str(artifacts),
        image_size=32,
        files=(str(tmp_path / "0.jpg"),),
        card=read_card(artifacts / ONNX),
    )
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=SHORT)
    row = next(row for row in timed_rows(task) if row.kind == "file")
    assert row.parts_ms is not None
    assert list(row.parts_ms) == ["decode", "resize", "normalise", "infer"]
    assert len(row.samples_ms) >= SHORT.min_queries
    for samples, duration_ms in zip([*row.parts_ms.values(), row.samples_ms], (4, 3, 2, 1, 10), strict=True):
        assert samples == pytest.approx([duration_ms] * len(row.samples_ms))


def test_unreadable_image_fails_only_the_file_row(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").write_text("not an image")
    subject = Subject(
        train_id="a",
        folder=str(artifacts),
        image_size=32,
        files=(str(tmp_path / "gone.jpg"),),
        card=read_card(artifacts / ONNX),
    )
    task = RoundTask(runtime=RUNTIME, subjects=(subject,), threads=1, protocol=SHORT)
    rows = timed_rows(task)
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
def test_measuring_imports_only_its_runtime(runtime: str, others: set[str], artifacts: Path, tmp_path: Path) -> None:
    smooth_image(0, size=200).save(tmp_path / "0.jpg")
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


def test_rows_beside_busy_processes_are_invalid(tmp_path: Path, artifacts: Path) -> None:
    protocol = replace(SHORT, rounds=5, duration_s=2.0, batch_sizes=())
    with busy_processes():
        (busy,) = carry_out(job(tmp_path, artifacts, protocol, ("a",))).rows["a"]
    assert statistics.median(part.disturbance.others_share for part in busy.rounds) > 0.3
    assert busy.validity == "invalid"
    assert "other processes" in str(busy.reason)


def test_model_that_fails_its_check_is_not_timed(tmp_path: Path, artifacts: Path) -> None:
    work = job(tmp_path, artifacts, replace(SHORT, rounds=2, batch_sizes=()), ("a",))
    wrong = replace(work.models[0], onnx_sha256="0" * 64)
    found = carry_out(replace(work, models=(wrong,)))
    (row,) = found.rows["a"]
    assert (row.status, row.samples_ms) == ("failed", ())
    assert "the run exported 0000" in str(row.reason)


def test_missing_cuda_device_is_not_measured(tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    work = job(tmp_path, artifacts, replace(SHORT, rounds=1, batch_sizes=()), ("a",))
    cuda = replace(work, config=RuntimeConfig(runtimes=("pytorch-cuda",), threads=1))
    found: Any = carry_out(cuda)
    assert [(row.status, row.reason) for row in found.rows["a"]] == [("not measured", "no CUDA device")]
