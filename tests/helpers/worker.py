"""A worker process like those of the harness: ``python -m tests.helpers.worker KIND FILE``; it forks without them."""

import contextlib
import errno
import logging
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

from bench.processes.forking import fork_for_each
from bench.processes.serving import Tell, serve
from bench.progress import Count, Epoch
from imgcls.messages import Message, Setting
from tests.helpers.examples import EPOCH

LOGGER = logging.getLogger("bench.somewhere")


def report(_path: Path, tell: Tell) -> int:
    """Log text and events, send a result, and print to standard output as a library might."""
    LOGGER.warning("beware of %s", "[brackets]")
    LOGGER.warning("a name whose bytes are not UTF-8: %s", "f\udcfcr.png")
    LOGGER.debug(Count(title="caching", done=1, total=2, left_s=1.0))
    LOGGER.info(Epoch(result=replace(EPOCH, val_loss=float("nan")), epochs=3, left_s=1.0))
    LOGGER.info(Message(("use ", Setting("weights", "none"))))
    print("a library prints", flush=True)  # noqa: T201 - must not reach the caller
    tell({"result": 1})
    return 3


def unwritable(_path: Path, _tell: Tell) -> int:
    """Fail as if the results had become read-only."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "results")


def cut_short(_path: Path, tell: Tell) -> int:
    """Send a result, and get killed while writing the next line."""
    tell("whole")
    for descriptor in range(3, 32):  # results go to a duplicate of standard output
        with contextlib.suppress(OSError):
            os.write(descriptor, b'["result", "hal')
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def environment(_path: Path, tell: Tell) -> int:
    """Send the environment, and the number of threads of each pool of the libraries that training loads."""
    import sklearn.metrics  # noqa: F401 - these load their pools
    import torch  # noqa: F401
    from threadpoolctl import threadpool_info

    tell({**os.environ, "pools": [pool["num_threads"] for pool in threadpool_info()]})
    return 0


def faults(_path: Path, tell: Tell) -> int:
    """Send the number of memory pages that the system had to provide for 50 tensors of 64 MB, one after the other."""
    import torch

    def freed() -> None:
        torch.ones(2**24)

    freed()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        freed()
    tell(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 0


def wait(_path: Path, tell: Tell) -> int:
    """Send this process and its parent, and wait until it is ended."""
    tell([os.getpid(), os.getppid()])
    signal.pause()
    return 0


def family(_path: Path, tell: Tell) -> int:
    """Send this process and its parent."""
    tell([os.getpid(), os.getppid()])
    return 0


KINDS = {
    "wait": wait,
    "family": family,
    "report": report,
    "unwritable": unwritable,
    "cut_short": cut_short,
    "environment": environment,
    "faults": faults,
}

if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], KINDS) if sys.argv[1:] else fork_for_each(KINDS))
