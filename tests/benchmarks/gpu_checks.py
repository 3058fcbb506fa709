"""Checks of a CUDA machine by the commands that users call; ``tests.benchmarks.gpu`` carries them out."""

import contextlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from bench.latency.monitoring import contexts, gpu_monitor
from bench.records.measurements import Measurement
from bench.records.schema import RunRecord
from bench.records.store import read_records, record_path
from imgcls.config import Device
from imgcls.inference.parity import MAX_REL_ERROR

BURN: Final = """
import sys, torch
side = int(sys.argv[2])
matrix = torch.randn(side, side, device=sys.argv[1])
print("computing", flush=True)
while True:
    matrix @ matrix
    if sys.argv[1] == "cuda":
        torch.cuda.synchronize()
"""
"""A process that computes on the device without end."""

LARGEST: Final = 128
"""The largest batch of the protocol."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is checked; a rehearsal in CI has the CPU, and a tiny model, in place of these."""

    folder: Path
    device: Device = "cuda"
    models: tuple[str, ...] = ("resnet50", "efficientnet_b0", "inception_v3")
    flags: tuple[str, ...] = ("--weights", "none")
    epochs: int = 2
    long_epochs: int = 60
    kill_after_s: float = 25.0
    px: int = 160
    batch_sizes: tuple[int, ...] = (32, 256)
    runtimes: tuple[str, ...] = (
        "pytorch-cuda",
        "pytorch-cuda-fp16",
        "pytorch-cuda-bf16",
        "pytorch-compile-cuda",
        "onnxruntime-cuda",
        *(("onnxruntime-tensorrt",) if importlib.util.find_spec("tensorrt") else ()),
    )

    @property
    def results(self) -> Path:
        """Results of the models, whose latency is measured."""
        return self.folder / "results"

    def command(self, *start: str, results: Path, epochs: int | None = None) -> tuple[str, ...]:
        """Return the arguments of a command that trains."""
        flags = (*start, *self.flags, "--epochs", str(epochs or self.epochs), "--results", str(results))
        return (*flags, "--device", self.device, "--runtimes", self.fp32)

    @property
    def fp32(self) -> str:
        """The runtime that the others are compared with."""
        return self.runtimes[0]

    @property
    def compiled(self) -> str:
        """The runtime with ``torch.compile``."""
        return f"pytorch-compile-{self.device}"


Outcome = tuple[bool | None, str]


def bench(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit status and output."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """Start Python, and kill it in the end."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def last_line(output: str) -> str:
    """Return the last line of an output, which says what was wrong."""
    return (output.splitlines() or [""])[-1]


def context_is_counted(subject: Subject) -> Outcome:
    """NVML counts this process once it has a context, and only then."""
    monitor = gpu_monitor()
    before = contexts(monitor.device)
    torch.zeros(1, device=subject.device).sum().item()
    after = contexts(monitor.device)
    if before is None or after is None:
        return False, "NVML does not list the processes of this device"
    own = monitor.own(after)
    listed = f"{len(before)} processes before, {len(after)} after, own id {sorted(own or ()) or 'unknown'}"
    return own is not None and not own & before, f"{listed}; others use {monitor.sample().foreign_share}"


def trains(subject: Subject) -> Outcome:
    """The default models train; device and peak memory are in the record, and parity is below the limit."""
    status, output = bench(*subject.command("run-all", "--models", *subject.models, results=subject.results))
    records = {record.config.model: record for record in read_records(subject.results)}
    if status or set(records) != set(subject.models):
        return False, last_line(output)
    lines = [_trained(record) for record in records.values()]
    passed = all(
        record.finished.training.device == subject.device
        and record.finished.training.peak_gpu_memory_bytes
        and record.finished.artifact.parity.max_rel_logit_error < MAX_REL_ERROR
        for record in records.values()
    )
    return bool(passed), "; ".join(lines)


def _trained(record: RunRecord) -> str:
    training, parity = record.finished.training, record.finished.artifact.parity
    memory = (training.peak_gpu_memory_bytes or 0) / 2**30
    return (
        f"{record.config.model}: {training.device}, {record.config.train.precision}, {training.train_img_per_s:.0f} "
        f"images/s, {memory:.2f} GiB, parity {parity.max_rel_logit_error:.1e}"
    )


def resumes(subject: Subject) -> Outcome:
    """A run that was killed leaves no process on the device, and resumes."""
    results = subject.folder / "killed"
    shutil.rmtree(results, ignore_errors=True)
    command = subject.command("run", subject.models[0], results=results, epochs=subject.long_epochs)
    monitor, began = gpu_monitor(), time.monotonic()
    before = contexts(monitor.device)
    with started(["-m", "bench", *command]) as process:
        for line in process.stdout or ():
            # After an epoch, as there is nothing to resume before.
            if line.strip().startswith("epoch") and time.monotonic() - began > subject.kill_after_s:
                break
    deadline = time.monotonic() + 30
    while (after := contexts(monitor.device)) != before and time.monotonic() < deadline:
        time.sleep(0.5)
    status, output = bench(*command)
    if status:
        return False, last_line(output)
    (record,) = read_records(results)
    resumed = record.finished.training.resumed_from
    left = f"{len(before or ())} processes on the device before, {len(after or ())} after the kill"
    return bool(resumed) and after == before, f"resumed after epoch {resumed}; {left}"


def lack_of_memory(subject: Subject) -> Outcome:
    """A fraction of memory too small is a failed row that names the micro-batch."""
    results = subject.folder / "memory"
    command = subject.command("run", subject.models[0], results=results)
    # Of PyTorch's allocator: less than the weights need.
    status, output = bench(*command, PYTORCH_ALLOC_CONF="per_process_memory_fraction:0.0005")
    errors = [record.error or "" for record in read_records(results) if record.status == "failed"]
    passed = status == 1 and any("micro-batch" in error for error in errors)
    return passed, last_line(errors[0] if errors else output)


def latency(subject: Subject) -> Outcome:
    """Five rounds of latency are valid; fp16 is compared with fp32 at batch 128."""
    status, output = bench("measure", "--runtimes", *subject.runtimes, "--results", str(_one_model(subject)))
    rows = _rows(subject)
    if not rows:
        return False, last_line(output)
    single = [row for row in rows if (row.kind, row.batch_size) == ("host", 1)]
    told = [f"{row.runtime} {row.validity or row.status} {row.reason or ''}".strip() for row in single]
    large = {
        row.runtime: statistics.median(row.samples_ms) for row in rows if row.batch_size == LARGEST and row.samples_ms
    }
    ratios = [f"{name} {large[subject.fp32] / took:.2f} x" for name, took in large.items() if subject.fp32 in large]
    passed = status == 0 and all(row.validity in {"valid", "noisy"} for row in single)
    return passed, "; ".join([*told, f"images/s at batch {LARGEST} over {subject.fp32}: {', '.join(ratios)}"])


def _one_model(subject: Subject) -> Path:
    """Return results with the first model alone, because the full protocol takes a minute for each runtime."""
    folder = subject.folder / "latency"
    if not folder.exists():
        shutil.copytree(subject.results, folder)
        for record in read_records(folder):
            if record.config.model != subject.models[0]:
                record_path(folder, record).unlink()
    return folder


def _rows(subject: Subject) -> list[Measurement]:
    return [
        row for record in read_records(_one_model(subject)) for row in record.measurements if row.protocol == "full"
    ]


def compiled(subject: Subject) -> Outcome:
    """Compiled rows run, or name what is missing."""
    rows = [row for row in _rows(subject) if row.runtime == subject.compiled]
    told = [f"batch {row.batch_size}: {row.reason or f'{statistics.median(row.samples_ms):.2f} ms'}" for row in rows]
    return bool(rows) and all(row.samples_ms or row.reason for row in rows), "; ".join(told) or "no row"


def second_process(subject: Subject) -> Outcome:
    """A second process that computes on the device makes the rounds invalid."""
    folder = subject.folder / "shared"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_one_model(subject), folder)
    side = "4096" if subject.device == "cuda" else "256"
    with started(["-c", BURN, subject.device, side]) as burner:
        assert burner.stdout is not None
        burner.stdout.readline()
        bench("measure", "--runtimes", subject.fp32, "--results", str(folder))
    rows = [row for record in read_records(folder) for row in record.measurements if row.runtime == subject.fp32]
    told = {f"{row.validity}: {row.reason}" for row in rows if row.kind == "host"}
    return bool(rows) and all(row.validity == "invalid" for row in rows), "; ".join(sorted(told))


def hidden(subject: Subject) -> Outcome:
    """With a hidden device ``--device cuda`` is refused, and ``auto`` trains on the CPU with a warning."""
    tiny = ("run", "test_efficientnet", *subject.flags, "--epochs", "1", "--runtimes", "pytorch-cpu")
    refused, results = subject.folder / "refused", subject.folder / "hidden"
    refusal, why = bench(*tiny, "--device", "cuda", "--results", str(refused), CUDA_VISIBLE_DEVICES="")
    status, output = bench(*tiny, "--device", "auto", "--results", str(results), CUDA_VISIBLE_DEVICES="")
    warned = [line for line in output.splitlines() if "training on the CPU" in line]
    devices = [record.finished.training.device for record in read_records(results) if record.status == "ok"]
    passed = (refusal, status, devices) == (2, 0, ["cpu"]) and bool(warned)
    return passed, f"exit {refusal}: {last_line(why)}; auto: {devices}, {warned[:1] or 'no warning'}"
