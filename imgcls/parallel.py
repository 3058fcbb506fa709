"""Parallel processing of many files on all cores that this process may use."""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import joblib
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor, get_reusable_executor

Item = TypeVar("Item")
Result = TypeVar("Result")
OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""
IN_PROCESS_LIMIT: Final = 4_000_000
"""Up to this many bytes of work, starting processes costs more than it saves (about a second)."""
# Several chunks per core balance the load if files differ in size, and let progress be reported more often.
CHUNKS_PER_CORE: Final = 16
AHEAD: Final = 4
"""Chunks per core that threads may be ahead of the caller: one large file must not stop the other cores."""
IDLE_S: Final = 60
WATCH_S: Final = 0.5
"""Seconds between two looks of a worker whether its parent is still there."""
PARENT_GONE_STATUS: Final = 129
"""Exit status of a worker whose parent has ended: 128 + SIGHUP."""
ONE_THREAD: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
)
"""Environment of worker processes: there is one for each core, so that their libraries must not start more threads."""


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
    crashed: Callable[[Item], Result] | None = None,
) -> list[Result]:
    """Apply ``function`` to chunks of ``items`` in parallel processes, and return the results in order of the items.

    ``cost_bytes`` is an estimate of the work; if it is small, no processes are started. With ``crashed`` there is
    always at least one: if ``function`` kills its process, its chunk is divided until the item is found that does so,
    and ``crashed`` returns the result for that item. Without it, such a crash raises BrokenProcessPool.
    """
    cores = usable_cores() if cost_bytes > IN_PROCESS_LIMIT else 1
    size = max(1, min(256, -(-len(items) // (cores * CHUNKS_PER_CORE))))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    done = 0

    def finished(chunk: Sequence[Item]) -> None:
        nonlocal done
        done += len(chunk)
        progress(done, len(items))

    if cores == 1 and crashed is None:
        results = []
        for chunk in chunks:
            results.append(function(chunk))
            finished(chunk)
        return results
    try:
        return _in_processes(function, chunks, cores=cores, finished=finished, crashed=crashed)
    except BaseException:
        # Workers that outlive an interrupted command leave semaphores, about which Python warns on the terminal.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _in_processes(
    function: Callable[[Sequence[Item]], Result],
    chunks: Sequence[Sequence[Item]],
    *,
    cores: int,
    finished: Callable[[Sequence[Item]], None],
    crashed: Callable[[Item], Result] | None,
) -> list[Result]:
    results: dict[int, list[Result]] = {}
    while waiting := [index for index in range(len(chunks)) if index not in results]:
        executor = _executor(cores)
        for index, future in [(index, executor.submit(function, chunks[index])) for index in waiting]:
            try:
                results[index] = [future.result()]
            except BrokenProcessPool:
                # All chunks that are not complete are lost with the process that was killed.
                if crashed is None:
                    raise
                continue
            finished(chunks[index])
        # Chunks start in order, so that the one that killed its process is among the first that are lost.
        for index in [index for index in waiting if index not in results][:cores]:
            assert crashed is not None
            results[index] = _divided(function, chunks[index], crashed)
            finished(chunks[index])
    return [result for index in range(len(chunks)) for result in results[index]]


def _executor(workers: int) -> ProcessPoolExecutor:
    return get_reusable_executor(
        max_workers=workers, timeout=IDLE_S, env=ONE_THREAD, initializer=end_with, initargs=(os.getpid(),)
    )


def end_with(parent: int) -> None:
    """End this worker process soon after its parent, by process id, which cannot do so itself if it is killed."""
    # A thread that looks, and not Linux's PR_SET_PDEATHSIG: that is sent when the thread ends that made the process.
    if sys.platform != "win32":  # where the id of the parent stays after its end
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    # Never set: unlike ``time.sleep``, its wait does not fail where a tool such as faketime moves the clock.
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(WATCH_S)
    os._exit(PARENT_GONE_STATUS)


def _divided(
    function: Callable[[Sequence[Item]], Result], chunk: Sequence[Item], crashed: Callable[[Item], Result]
) -> list[Result]:
    """Apply the function to a chunk in a process of its own, and to ever smaller parts of it if that is killed."""
    try:
        return [_executor(1).submit(function, chunk).result()]
    except BrokenProcessPool:
        if len(chunk) == 1:
            return [crashed(chunk[0])]
        middle = len(chunk) // 2
        return [result for part in (chunk[:middle], chunk[middle:]) for result in _divided(function, part, crashed)]


def stream_chunks(
    function: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], *, size: int
) -> Generator[Result, None, None]:
    """Apply ``function`` to chunks of at most ``size`` items in threads, and yield the result of each item, in order.

    For work in libraries that release the interpreter's lock. A few chunks per core are computed ahead of the caller,
    so that memory does not grow with the number of items; no others are begun after the generator is closed.
    """
    cores = usable_cores()
    size = max(1, min(size, -(-len(items) // cores)))
    pending: deque[Future[Sequence[Result]]] = deque()
    pool = ThreadPoolExecutor(cores)
    try:
        for start in range(0, len(items), size):
            pending.append(pool.submit(function, items[start : start + size]))
            if len(pending) > AHEAD * cores:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
