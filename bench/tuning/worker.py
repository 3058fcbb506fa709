"""Worker process that runs trials of a study: ``python -m bench.tuning.worker sweep TASK.json``."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Final

from bench.processes.serving import Tell, serve
from imgcls.errors import RunError, UserError

LOGGER = logging.getLogger(__name__)

WORKER: Final = "bench.tuning.worker"


def sweep(path: Path, _tell: Tell) -> int:
    """Run trials until the study's budget is spent; return 1 if an error stops it earlier."""
    from bench.runs.plan import read_task  # noqa: PLC0415 - loads torch, which importing this module must not
    from bench.tuning.search import SweepTask, evaluate_here, work  # noqa: PLC0415
    from bench.tuning.storage import open_storage, quiet  # noqa: PLC0415

    quiet()
    # The caller shows the table of the study in place of the progress bars of its trainings.
    logging.getLogger("bench.progress").setLevel(logging.INFO)
    task = read_task(path, SweepTask)
    try:
        work(task, open_storage(task.url), evaluate_here(task))
    except (UserError, RunError) as error:
        LOGGER.error("stopped: %s", error)  # noqa: TRY400 - one line for the user
        return 1
    return 0


KINDS: Final = {"sweep": sweep}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    sys.exit(serve(sys.argv[1:], KINDS))
