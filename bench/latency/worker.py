"""Processes that time a round, or check or convert one model: ``python -m bench.latency.worker KIND TASK.json``.

Each function imports only what it needs, because a measuring process must not load what it does not time.
"""

import logging
import sys
import warnings
from pathlib import Path
from typing import Final

import msgspec

from bench.processes.serving import Tell, serve
from imgcls.errors import RunError, UserError

LOGGER = logging.getLogger(__name__)

WORKER: Final = "bench.latency.worker"

LOST_DEVICE: Final = 3
"""Exit status of a process whose device became unusable after an error that it has reported."""


def measure(path: Path, tell: Tell) -> int:
    """Time one round of one runtime; each row is sent as a result. Return 0, or ``LOST_DEVICE``."""
    from bench.latency.round_worker import RoundTask, run_round  # noqa: PLC0415

    return 0 if run_round(msgspec.json.decode(path.read_bytes(), type=RoundTask), tell) else LOST_DEVICE


def check(path: Path, _tell: Tell) -> int:
    """Measure the cold start of one model in one runtime, compare it with the trained one, and write the check."""
    from bench.latency.cold_start import CheckTask, ColdStart, cold_start  # noqa: PLC0415

    task = msgspec.json.decode(path.read_bytes(), type=CheckTask)
    cold: ColdStart | Exception
    try:
        cold = cold_start(task)
    except Exception as error:  # noqa: BLE001 - becomes the reason of the check
        cold = error
    # Imported only now: these load libraries that would otherwise be missing from the cold start.
    from bench.latency.checks import check_runtime  # noqa: PLC0415
    from bench.records.store import write_json  # noqa: PLC0415

    write_json(check_runtime(task, cold), Path(task.result_file))
    return 0


def convert(path: Path, _tell: Tell) -> int:
    """Write the model file of a reduced precision; return 1 if that fails."""
    from bench.latency.checks import convert as make  # noqa: PLC0415
    from bench.latency.cold_start import CheckTask  # noqa: PLC0415

    try:
        make(msgspec.json.decode(path.read_bytes(), type=CheckTask))
    except (UserError, RunError) as error:
        LOGGER.warning("  %s", error)
        return 1
    return 0


KINDS: Final = {"measure": measure, "check": check, "convert": convert}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    sys.exit(serve(sys.argv[1:], KINDS))
