"""A worker that does nothing but store which CUDA devices it sees: ``python -m tests.helpers.device_worker KIND TASK``.

It ends when ``$TOGETHER`` workers have begun, so that they all run at the same time.
"""

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    folder = Path(os.environ["SEEN"])
    (folder / f"{os.getpid()}.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < int(os.environ["TOGETHER"]):
        if time.monotonic() > deadline:
            sys.exit(2)
        time.sleep(0.02)
