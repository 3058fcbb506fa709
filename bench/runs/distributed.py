"""A run on several devices: ``torchrun`` starts a process for each; the first one also evaluates and records."""

import logging
import os
import signal
import sys
from typing import Final

from bench.processes.serving import FAILED_STATUS, Tell
from bench.runs import failures
from bench.runs.execution import assist
from bench.runs.plan import Task
from bench.runs.recording import run_and_record
from imgcls.errors import NonFiniteLossError
from imgcls.parallel import end_with
from imgcls.training import ranks

END: Final = "end"
BY_THE_LAUNCHER: Final = -signal.SIGTERM
"""How the launcher ends the processes that remain when one has failed."""


def launch(module: str, path: str, processes: int) -> int:
    """Start ``processes`` processes of ``python -m module run path`` by ``torchrun``, and wait until all have ended.

    Returns 0, or how the first one that failed has ended: its exit status, or minus the signal that killed it.
    """
    # torch loads its launcher in a second, which other workers need not wait for.
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    # What it reports about a failed process is reported by the caller, in one line.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, "run", path)
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        # A process that was killed is the reason for which the others failed.
        killed = [status for status in statuses if status < 0 and status != BY_THE_LAUNCHER]
        return (killed or statuses)[0]
    return 0


def run(task: Task, tell: Tell) -> int:
    """Carry out a run as one of its processes; return 1 if it failed.

    The reason of any but the first, which has no record, is sent to the caller.
    """
    end_with(os.getppid())
    with ranks.joined(task.config.train):
        if not ranks.leads():
            return _assist(task, tell)
        try:
            record = run_and_record(task)
        except ranks.PeerLostError:
            return FAILED_STATUS
        if record.status != "ok":
            # The launcher ends the others, which may be waiting within the training.
            return FAILED_STATUS
        ranks.of_first(END)
        return 0


def _assist(task: Task, tell: Tell) -> int:
    # The first process reports for all.
    logging.disable()
    try:
        assist(task)
    except (NonFiniteLossError, ranks.StoppedError, ranks.PeerLostError):
        # Of all processes, or of another one.
        return FAILED_STATUS
    except Exception as error:  # noqa: BLE001 - every error becomes a failed row, with its traceback
        tell(failures.traceback_text(error, {task.paths.results: "RESULTS", task.paths.cache: "CACHE"}))
        return FAILED_STATUS
    return 0
