"""Forms and exports in processes of this machine, each a fork, so that a crash ends one candidate only."""

import contextlib
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import msgspec

from bench.processes.forking import ForkServer
from bench.processes.starting import Group, shared_out
from bench.runs import failures
from bench.runs.plan import write_task
from bench.selection.forms import Form, FormTask
from bench.selection.latency.exporting import Exported, ExportTask
from bench.selection.racing import Crew
from bench.selection.worker import WORKER
from imgcls.config import Device

Run = Callable[[FormTask], Form]
"""Trains a form, and waits for its end."""


@contextlib.contextmanager
def crew_here(jobs: int, device: Device) -> Iterator[Crew]:
    """Train ``jobs`` forms at a time in processes of this machine, each on a GPU of its own if there are enough."""
    group = Group()
    servers = [ForkServer(WORKER, device=visible, group=group) for visible in shared_out(jobs, device)]
    free: queue.SimpleQueue[ForkServer] = queue.SimpleQueue()
    for server in servers:
        free.put(server)

    def run(form: FormTask) -> Form:
        server = free.get()
        try:
            return _run(form, server)
        finally:
            free.put(server)

    def crew(forms: Iterator[FormTask]) -> Iterator[tuple[FormTask, Form, float]]:
        try:
            yield from side_by_side(forms, run, jobs)
        except BaseException:  # KeyboardInterrupt is not an Exception
            group.end()
            raise

    try:
        yield crew
    finally:
        for server in servers:
            server.close()


def side_by_side(forms: Iterator[FormTask], run: Run, jobs: int) -> Iterator[tuple[FormTask, Form, float]]:
    """Train ``jobs`` forms at a time; the next one is taken when it can begin. Yield each with its seconds."""

    def timed(form: FormTask) -> tuple[FormTask, Form, float]:
        started = time.perf_counter()
        return form, run(form), time.perf_counter() - started

    if jobs == 1:
        yield from map(timed, forms)
        return
    pool, running = ThreadPoolExecutor(jobs), set[Future[tuple[FormTask, Form, float]]]()
    try:
        more = True
        while more or running:
            while more and len(running) < jobs:
                form = next(forms, None)
                more = form is not None
                if form is not None:
                    running.add(pool.submit(timed, form))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _run(form: FormTask, server: ForkServer) -> Form:
    file, results = form.task.paths.task(f"{form.task.train_id}.form"), list[bytes]()
    write_task(form, file)
    try:
        status = server.run("form", file, results.append, threads=form.task.config.train.threads_per_device)
    finally:
        file.unlink(missing_ok=True)
    if server.group is not None and server.group.ended:
        raise KeyboardInterrupt
    return msgspec.json.decode(results[-1], type=Form) if results else Form(error=failures.killed(status))


def export_here(task: ExportTask, server: ForkServer) -> Exported:
    """Export an untrained network in a fork of a process of this machine."""
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    file, results = task.folder.parent / f"{task.folder.name}.task.json", list[bytes]()
    write_task(task, file)
    status = server.run("export", file, results.append, threads=task.threads)
    return msgspec.json.decode(results[-1], type=Exported) if results else Exported(error=failures.killed(status))
