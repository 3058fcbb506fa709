"""Workers that need not load their libraries: a process loads them once, and each task is a fork of it.

A crash or a lack of memory still ends its own task only. The caller sends each task, with a pipe for what the fork
writes, through a socket that is the standard input of the process, and receives the exit status of the fork.
"""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import msgspec

from bench.processes.serving import Kinds, serve
from bench.processes.starting import Group, Receive, end, ignore, launch, relay, start
from imgcls.parallel import end_with

if TYPE_CHECKING:
    import subprocess

SAFE: Final = sys.platform == "linux"
"""Whether a process with loaded libraries can fork: with the system libraries of macOS it may not, on Windows never."""

LIMIT_BYTES: Final = 65_536
"""Longest message between the two."""


class Fork(msgspec.Struct, frozen=True, array_like=True):
    """What the caller sends: the kind of a task, and its file."""

    kind: str
    path: str


class ForkServer:
    """The caller's side: carries out tasks one after the other, each in a fork of a process that it starts.

    The process is started for the first task, anew for another number of threads, and anew after it was killed.
    """

    def __init__(self, module: str, *, device: str | None = None, group: Group | None = None) -> None:
        """Start nothing yet; ``module`` calls ``fork_for_each``, and the others are those of ``launch``."""
        self.module, self.group, self._device = module, group, device
        self._started: tuple[socket.socket, subprocess.Popen[bytes]] | None = None
        self._threads = 0

    def run(self, kind: str, path: Path, receive: Receive = ignore, *, threads: int) -> int:
        """Carry out a task, and return its exit status (minus the signal that killed it); as ``launch`` does."""
        if not SAFE:
            command = [self.module, kind, str(path)]
            return launch(command, receive, threads=threads, device=self._device, group=self.group)
        requests, process = self._ready(threads)
        output, theirs = os.pipe()
        with os.fdopen(output, "rb") as lines:
            try:
                try:
                    socket.send_fds(requests, [msgspec.json.encode(Fork(kind, str(path)))], [theirs])
                finally:
                    os.close(theirs)
                relay(lines, receive)
                status = requests.recv(LIMIT_BYTES)
            except (BrokenPipeError, ConnectionResetError):
                status = b""
        # Empty if the process was killed, and its fork with it.
        return msgspec.json.decode(status, type=int) if status else process.wait()

    def _ready(self, threads: int) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
        """Return the socket and the process, which is alive and has this number of threads."""
        if self._started is not None and self._started[1].poll() is None and threads == self._threads:
            return self._started
        self.close()
        requests, theirs = socket.socketpair()
        with theirs:
            process = start([self.module], threads=threads, device=self._device, stdin=theirs.fileno())
        if self.group is not None:
            self.group.add(process)
        self._started, self._threads = (requests, process), threads
        return self._started

    def close(self) -> None:
        """End the process, and a task that it carries out."""
        if self._started is not None:
            requests, process = self._started
            requests.close()
            with process:  # closes its pipe
                end(process)


def fork_for_each(kinds: Kinds) -> int:
    """Carry out the tasks that the caller sends, each in a fork; return when the caller has ended.

    What the tasks import must be loaded already, and must not have computed with torch or initialised CUDA.
    """
    # Ctrl-C reaches all processes of a terminal; the caller handles it and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    # Standard output is for the forks, each of which has its own.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests, server = socket.socket(fileno=os.dup(0)), os.getpid()
    while True:
        content, pipes, *_ = socket.recv_fds(requests, LIMIT_BYTES, 1)
        if not content:
            # An exception while the interpreter ends would be printed, and the caller may still terminate.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            return 0
        fork, (output,) = msgspec.json.decode(content, type=Fork), pipes
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            requests.close()
            os.dup2(output, sys.stdout.fileno())
            os.close(output)
            end_with(server)
            return serve([fork.kind, fork.path], kinds)
        os.close(output)
        requests.sendall(msgspec.json.encode(_ended(child)))


def _stop(signal_number: int, _frame: object) -> NoReturn:
    signal.signal(signal_number, signal.SIG_IGN)  # once is enough
    sys.exit(128 + signal_number)


def _ended(child: int) -> int:
    """Wait until a fork has ended, and return its exit status, or minus the signal that killed it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except SystemExit:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        raise
