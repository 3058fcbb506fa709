"""The worker process of one probe: ``python -m bench.estimates.worker probe TASK.json``."""

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Final

from bench.processes.serving import Tell, serve
from bench.progress import LOGGERS

WORKER: Final = "bench.estimates.worker"


def probe(path: Path, tell: Tell) -> int:
    """Send what a short run of a task took, or the message of its error."""
    from bench.estimates.probing import probe as measure  # noqa: PLC0415 - loads torch, which importing this must not
    from bench.runs.plan import Task, read_task  # noqa: PLC0415
    from imgcls.errors import RunError  # noqa: PLC0415

    # What a run reports, such as epochs and an export, has no meaning for a training that is thrown away.
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        try:
            tell(measure(read_task(path, Task), Path(folder)))
        except RunError as error:
            tell(str(error))
    return 0


KINDS: Final = {"probe": probe}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*torch.jit")  # by timm's import; users cannot act on it
    sys.exit(serve(sys.argv[1:], KINDS))
