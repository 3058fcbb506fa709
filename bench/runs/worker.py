"""The worker process of one run, or of the choice of its precision: ``python -m bench.runs.worker run TASK.json``.

Without arguments it carries out the tasks that its caller sends, each in a fork.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Final

from bench.processes.forking import fork_for_each
from bench.processes.serving import Tell, end_with_parent, serve

WORKER: Final = "bench.runs.worker"
SEVERAL: Final = "several"
"""The kind of a worker that starts the processes of a run, each of which is a worker of the kind ``run``."""


def run(path: Path, tell: Tell) -> int:
    """Carry out a run and write its record; return 1 if the run failed."""
    from bench.runs import distributed  # noqa: PLC0415 - loads torch, which importing this module must not
    from bench.runs.plan import Task, read_task  # noqa: PLC0415
    from bench.runs.recording import run_and_record  # noqa: PLC0415

    task = read_task(path, Task)
    if task.config.train.devices != 1:
        return distributed.run(task, tell)  # the caller removes the file, which several processes read
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


def prepared_for_forks() -> int:
    """Load what runs need, and carry them out as forks."""
    from bench.runs import distributed  # noqa: F401, PLC0415 - what ``run`` imports

    return fork_for_each(KINDS)


def start_several(path: str, processes: str) -> int:
    """Carry out a run in several processes, and end as the one that failed."""
    from bench.runs import distributed  # noqa: PLC0415

    end_with_parent()
    status = distributed.launch(WORKER, path, int(processes))
    if status < 0:
        os.kill(os.getpid(), -status)  # the caller reports a signal
    return status


KINDS: Final = {"run": run, "precision": precision}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    if len(sys.argv) == 1:
        sys.exit(prepared_for_forks())
    if sys.argv[1] == SEVERAL:
        sys.exit(start_several(*sys.argv[2:]))
    sys.exit(serve(sys.argv[1:], KINDS))
