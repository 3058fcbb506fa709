"""Tasks as forks of one process: what they send, how they end, and what is left of them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from bench.processes import forking
from bench.processes.forking import SAFE, ForkServer
from bench.processes.starting import Group
from tests.helpers.waiting import until

WORKER = "tests.helpers.worker"
NONE = Path("-")

pytestmark = pytest.mark.skipif(not SAFE, reason="this system does not fork processes that have loaded libraries")


@pytest.fixture
def server() -> Iterator[ForkServer]:
    with closing(ForkServer(WORKER)) as started:
        yield started


def family(server: ForkServer, *, threads: int = 1) -> tuple[int, int]:
    """Return the process of a task, and the process of which it is a fork."""
    results: list[bytes] = []
    assert server.run("family", NONE, results.append, threads=threads) == 0
    process, parent = json.loads(results[0])
    return process, parent


def in_background(server: ForkServer, statuses: list[int]) -> tuple[threading.Thread, list[int]]:
    """Begin a task that waits; return the thread in which it runs, and its process and that process's parent."""
    results: list[bytes] = []

    def wait() -> None:
        statuses.append(server.run("wait", NONE, results.append, threads=1))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: results, what="the waiting task")
    return thread, json.loads(results[0])


def repeatedly_terminated(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            process.terminate()


def gone(processes: list[int]) -> bool:
    return not any(psutil.pid_exists(process) for process in processes)


def test_tasks_are_forks_of_one_process(server: ForkServer) -> None:
    (first, parent), (second, same) = family(server), family(server)
    assert first != second
    assert parent == same


def test_task_sends_what_a_process_of_its_own_sends(server: ForkServer, capfd: pytest.CaptureFixture[str]) -> None:
    results: list[bytes] = []
    assert server.run("report", NONE, results.append, threads=1) == 3
    assert [json.loads(result) for result in results] == [{"result": 1}]
    printed = capfd.readouterr()
    assert "a library prints" in printed.err
    assert not printed.out


def test_killed_task_is_the_only_one_that_ends(server: ForkServer) -> None:
    results: list[bytes] = []
    _, parent = family(server)
    assert server.run("cut_short", NONE, results.append, threads=1) == -signal.SIGKILL
    assert results == [b'"whole"']
    assert family(server)[1] == parent


def test_killed_parent_ends_its_task_and_is_replaced(server: ForkServer) -> None:
    statuses: list[int] = []
    thread, processes = in_background(server, statuses)
    os.kill(processes[1], signal.SIGKILL)
    thread.join()
    assert statuses == [-signal.SIGKILL]
    until(lambda: gone(processes), what="the end of the task")
    assert family(server)[1] != processes[1]


def test_parent_that_was_killed_between_tasks_is_replaced(server: ForkServer) -> None:
    _, parent = family(server)
    os.kill(parent, signal.SIGKILL)
    until(lambda: psutil.Process(parent).status() == psutil.STATUS_ZOMBIE, what="the end of the parent")
    assert family(server)[1] != parent


def test_each_number_of_threads_has_its_own_process(server: ForkServer) -> None:
    results: list[bytes] = []
    parent = family(server)[1]
    assert server.run("environment", NONE, results.append, threads=2) == 0
    assert json.loads(results[0])["OMP_NUM_THREADS"] == "2"
    assert not psutil.pid_exists(parent)


def test_task_ends_with_its_group() -> None:
    group, statuses = Group(), list[int]()
    with closing(ForkServer(WORKER, group=group)) as server:
        thread, processes = in_background(server, statuses)
        group.end()
        thread.join()
        assert gone(processes)
    assert statuses == [128 + signal.SIGTERM]


def test_signals_that_arrive_while_the_process_ends_print_nothing(
    server: ForkServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Closing ends the input of the process first, and then terminates it, which a group may have done already."""
    for _ in range(2):
        process = psutil.Process(family(server)[1])
        sender = threading.Thread(target=repeatedly_terminated, args=(process,))
        sender.start()
        server.close()
        sender.join()
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_left_of_a_killed_caller() -> None:
    program = f"""if True:
        from pathlib import Path
        from bench.processes.forking import ForkServer
        ForkServer({WORKER!r}).run("wait", Path("-"), lambda result: print(result.decode(), flush=True), threads=1)
    """
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        processes = json.loads(caller.stdout.readline())
        caller.kill()
    until(lambda: gone(processes), what="the end of the task and of its parent")


def test_system_that_cannot_fork_starts_processes(server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "SAFE", False)
    assert family(server)[1] == os.getpid()


def test_loading_the_libraries_does_not_initialise_cuda() -> None:
    """Otherwise no fork could use it."""
    program = """if True:
        import torch

        def refused(*_):
            raise AssertionError("CUDA was queried")

        for name in ("_lazy_init", "is_available", "device_count", "get_device_properties"):
            setattr(torch.cuda, name, refused)
        from bench.runs import distributed
        assert distributed.run is not None
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
