"""Parallel processing of many files on all cores that this process may use."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor

Item = TypeVar("Item")
Result = TypeVar("Result")
OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""
IN_PROCESS_LIMIT: Final = 4_000_000
"""Up to this many bytes of work, starting processes costs more than it saves (about a second)."""
# Several chunks per core balance the load if files differ in size, and let progress be reported more often.
CHUNKS_PER_CORE: Final = 16


def usable_cores() -> int:
    """Return the number of cores that affinity and cgroup limits leave to this process."""
    # os.cpu_count() counts the cores of the host.
    return int(joblib.cpu_count())


def silent(done: int, total: int) -> None:
    """Report no progress."""
    del done, total


def map_chunks(
    function: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    *,
    cost_bytes: int,
    progress: OnProgress = silent,
) -> list[Result]:
    """Apply ``function`` to chunks of ``items`` in parallel processes, and return the results in order of the chunks.

    ``cost_bytes`` is an estimate of the work; if it is small, no processes are started.
    """
    cores = usable_cores() if cost_bytes > IN_PROCESS_LIMIT else 1
    size = max(1, min(256, -(-len(items) // (cores * CHUNKS_PER_CORE))))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    # A generator yields each result as soon as it and all earlier ones are complete, so that progress can be reported.
    tasks = (joblib.delayed(function)(chunk) for chunk in chunks)
    results = []
    done = 0
    try:
        for chunk, result in zip(chunks, joblib.Parallel(n_jobs=cores, return_as="generator")(tasks), strict=True):
            results.append(result)
            done += len(chunk)
            progress(done, len(items))
    except BaseException:
        # Workers that outlive an interrupted command leave semaphores, about which Python warns on the terminal.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise
    return results
