"""The whole check of a CUDA machine: ``python -m tests.benchmarks.gpu OUT``, planned for ten minutes, resumable.

Every check is carried out by the commands and functions that users call, has a verdict, and is written to OUT/gpu.json
as soon as it is done, and all of them to OUT/gpu.md. Without a device the script says so, and ends with status 0.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.records.environment import read_environment
from imgcls.devices import NO_DEVICE, unusable_gpu, usable_cuda
from imgcls.files import write_text
from tests.benchmarks import gpu_checks, gpu_figures
from tests.benchmarks.gpu_checks import Outcome, Subject


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a check: ``passed`` is None for a figure that is only printed."""

    check: str
    passed: bool | None
    observed: str
    took_s: float


CHECKS: Final[dict[str, Callable[[Subject], Outcome]]] = {
    # First, while this process has no context.
    "NVML counts this process once it has a context": gpu_checks.context_is_counted,
    "the models train on the device": gpu_checks.trains,
    "a killed run resumes, and leaves no process": gpu_checks.resumes,
    "too little memory is a failed row": gpu_checks.lack_of_memory,
    "latency by the protocol is valid": gpu_checks.latency,
    "compiled rows run, or name what is missing": gpu_checks.compiled,
    "a second process makes the rounds invalid": gpu_checks.second_process,
    "a hidden device is refused, or warned about": gpu_checks.hidden,
    "`.to(device, dtype)` over `.to(device).to(dtype)`": gpu_figures.transfer,
    "augmentation of a batch over a bf16 step": gpu_figures.augmentation,
    "time on the device with over without launch gaps": gpu_figures.device_time,
    "training loop over bare step": gpu_figures.throughput,
}


def check(subject: Subject) -> list[Verdict]:
    """Carry out all checks that are not in the folder yet; an exception is a verdict, too."""
    file = subject.folder / "gpu.json"
    verdicts: list[Verdict] = []
    if file.exists():
        verdicts = msgspec.json.decode(file.read_bytes(), type=Session).verdicts
    for name, carry_out in CHECKS.items():
        if any(verdict.check == name for verdict in verdicts):
            continue
        began = time.perf_counter()
        try:
            passed, observed = carry_out(subject)
        except Exception as error:  # noqa: BLE001 - the other checks go on
            passed, observed = False, f"{type(error).__name__}: {error}"
        verdicts.append(
            Verdict(check=name, passed=passed, observed=observed, took_s=round(time.perf_counter() - began))
        )
        print(f"{name}: {_word(passed)}: {observed}", flush=True)  # noqa: T201
        session = Session(environment=asdict(read_environment()), verdicts=verdicts)
        write_text(msgspec.json.format(msgspec.json.encode(session)).decode() + "\n", file)
        write_text(document(session), subject.folder / "gpu.md")
    return verdicts


@dataclass(frozen=True, kw_only=True)
class Session:
    """The verdicts of a machine."""

    environment: dict[str, Any]
    verdicts: list[Verdict]


def document(session: Session) -> str:
    """Return the verdicts as a Markdown table."""
    machine, packages = session.environment, session.environment["packages"]
    gpu = f"{machine['gpu_name']}, driver {machine['gpu_driver']}, CUDA {machine['cuda_version']}"
    lines = [
        f"`nox -s gpu` on {gpu}, torch {packages.get('torch')}, commit {str(machine['git_commit'])[:8]}:",
        "",
        "| check | verdict | observed | s |",
        "|---|---|---|---:|",
        *(
            f"| {verdict.check} | {_word(verdict.passed)} | {' '.join(verdict.observed.split()).replace('|', '/')} | "
            f"{verdict.took_s:.0f} |"
            for verdict in session.verdicts
        ),
    ]
    return "\n".join(lines) + "\n"


def _word(passed: bool | None) -> str:  # noqa: FBT001 - a verdict
    return {True: "passed", False: "FAILED", None: "figure"}[passed]


def main() -> int:
    """Check the device of this machine; return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for gpu.json, gpu.md and the results of the checks")
    out: Path = parser.parse_args().out
    if not usable_cuda():
        print(f"nothing to check: {unusable_gpu() or NO_DEVICE}")  # noqa: T201
        return 0
    out.mkdir(parents=True, exist_ok=True)
    return 0 if all(verdict.passed is not False for verdict in check(Subject(folder=out.absolute()))) else 1


if __name__ == "__main__":
    sys.exit(main())
