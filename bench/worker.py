"""The processes that ``run-all``, ``sweep`` and ``measure`` start: ``python -m bench.worker KIND TASK.json``."""

import faulthandler
import signal
import sys
import warnings
from pathlib import Path

import msgspec
from rich.console import Console

from bench.launchers import end_with_parent
from bench.records import write_json
from imgcls.errors import RunError, UserError


def main(arguments: list[str]) -> int:
    """Carry out one task; 0 where it went well, 1 where it left a failed record."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us too; the caller ends us in order
    end_with_parent()
    kind, path = arguments
    return {"run": _run, "sweep": _sweep, "measure": _measure, "check": _check, "convert": _convert}[kind](Path(path))


def _run(path: Path) -> int:
    from bench.plan import Task, read_task  # noqa: PLC0415 - imports torch; a measuring process must not
    from bench.runner import run_and_record  # noqa: PLC0415

    record = run_and_record(read_task(path, Task), Console(highlight=False, soft_wrap=True))
    return 0 if record.status == "ok" else 1


def _sweep(path: Path) -> int:
    from bench.plan import read_task  # noqa: PLC0415
    from bench.storage import open_storage, quiet  # noqa: PLC0415
    from bench.sweep import SweepTask, evaluate_here, work  # noqa: PLC0415

    quiet()
    sweep = read_task(path, SweepTask)
    try:
        work(sweep, open_storage(sweep.url), evaluate_here(sweep, Console(quiet=True)))
    except (UserError, RunError) as error:
        print(f"stopped: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _measure(path: Path) -> int:
    from bench.measuring import RoundTask, run_round  # noqa: PLC0415

    run_round(msgspec.json.decode(path.read_bytes(), type=RoundTask))
    return 0


def _check(path: Path) -> int:
    from bench.cold import CheckTask, ColdStart, cold_start  # noqa: PLC0415 - and nothing more before the cold start

    task = msgspec.json.decode(path.read_bytes(), type=CheckTask)
    cold: ColdStart | Exception
    try:
        cold = cold_start(task)
    except Exception as error:  # noqa: BLE001 - becomes the check's reason
        cold = error
    from bench.checking import check_runtime  # noqa: PLC0415

    write_json(check_runtime(task, cold), Path(task.answer))
    return 0


def _convert(path: Path) -> int:
    from bench.checking import convert  # noqa: PLC0415
    from bench.cold import CheckTask  # noqa: PLC0415

    try:
        convert(msgspec.json.decode(path.read_bytes(), type=CheckTask))
    except (UserError, RunError) as error:
        print(f"  {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # timm's import; nothing a user can do
    sys.exit(main(sys.argv[1:]))
