"""The worker process of one run, or of the choice of its precision: ``python -m bench.runs.worker run TASK.json``."""

import sys
import warnings
from pathlib import Path
from typing import Final

from bench.runs.processes import Tell, serve

WORKER: Final = "bench.runs.worker"


def run(path: Path, _tell: Tell) -> int:
    """Carry out a run and write its record; return 1 if the run failed."""
    from bench.runs.execution import run_and_record  # noqa: PLC0415 - loads torch, which importing this module must not
    from bench.runs.plan import Task, read_task  # noqa: PLC0415

    task = read_task(path, Task)
    path.unlink()  # now, so that a kill leaves no file with settings behind
    record = run_and_record(task)
    return 0 if record.status == "ok" else 1


def precision(path: Path, tell: Tell) -> int:
    """Send the speed of training steps in a reduced precision over that in fp32, in each of several rounds."""
    from bench.runs.plan import Probe, read_task  # noqa: PLC0415
    from imgcls.training.precision import speedup  # noqa: PLC0415

    probe = read_task(path, Probe)
    path.unlink()
    tell(speedup(probe.spec, probe.loader, probe.train))
    return 0


KINDS: Final = {"run": run, "precision": precision}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    sys.exit(serve(sys.argv[1:], KINDS))
