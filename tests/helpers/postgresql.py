"""A real PostgreSQL server of Debian, started for a test."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

INSTALLED: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))

# Outside the temporary files of the tests, which the server's own user cannot read.
HOME: Final = tempfile.gettempdir()


class Server:
    """A server with an empty database, which can be killed and started again; its data are removed at the end."""

    def __init__(self) -> None:
        self._home, self._programs = Path(tempfile.mkdtemp(prefix="postgresql-", dir=HOME)), INSTALLED[-1].parent
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        if os.geteuid() == 0:
            shutil.chown(self._home, "postgres")
        self._data = self._home / "data"
        _run(self._programs / "initdb", "-D", self._data, "-A", "trust", "-U", "bench")

    @property
    def url(self) -> str:
        """The storage URL of the database."""
        return f"postgresql+psycopg://bench@127.0.0.1:{self._port}/studies"

    def __enter__(self) -> Self:
        self.start()
        _run(self._programs / "createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "bench", "studies")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # it may have been killed
            _run(self._programs / "pg_ctl", "-D", self._data, "-m", "immediate", "stop")
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self._port} -k {self._home} -c listen_addresses=127.0.0.1"
        _run(self._programs / "pg_ctl", "-D", self._data, "-w", "-l", self._home / "log", "-o", options, "start")

    def kill(self) -> None:
        """Send SIGKILL to the server; its processes for connections end with it."""
        process = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(process, signal.SIGKILL)


def _run(*command: str | Path) -> None:
    """Run one of PostgreSQL's programs as its own user, because they refuse to run as root."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*user, *map(str, command)], check=True, capture_output=True, cwd="/")
