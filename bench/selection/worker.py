"""The worker process of a race: ``python -m bench.selection.worker``; each task is a fork of it.

Its kinds are a form of a candidate, and the export of an untrained network.
"""

import sys
import warnings
from pathlib import Path
from typing import Final

from bench.processes.forking import fork_for_each
from bench.processes.serving import FAILED_STATUS, Tell, serve

WORKER: Final = "bench.selection.worker"


def form(path: Path, tell: Tell) -> int:
    """Train a form of a candidate, and send which val images it classifies correctly."""
    from bench.runs.plan import read_task  # noqa: PLC0415 - loads torch, which importing this module must not
    from bench.selection import forms  # noqa: PLC0415

    task = read_task(path, forms.FormTask)
    try:
        tell(forms.carry_out(task))
    except Exception as error:  # noqa: BLE001 - one candidate's failure must not stop the race
        tell(forms.Form(error=_line(error)))
        return FAILED_STATUS
    return 0


def export(path: Path, tell: Tell) -> int:
    """Export an untrained network, and send what its images cost."""
    from bench.runs.plan import read_task  # noqa: PLC0415
    from bench.selection.latency import exporting  # noqa: PLC0415

    try:
        tell(exporting.export_untrained(read_task(path, exporting.ExportTask)))
    except Exception as error:  # noqa: BLE001 - as above
        tell(exporting.Exported(error=_line(error)))
        return FAILED_STATUS
    return 0


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


KINDS: Final = {"form": form, "export": export}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    if len(sys.argv) == 1:
        from bench.selection import forms  # noqa: F401 - what the tasks import
        from bench.selection.latency import exporting  # noqa: F401

        sys.exit(fork_for_each(KINDS))
    sys.exit(serve(sys.argv[1:], KINDS))
