"""Locks that all users and all results folders of a machine share: flock on files that every user may read.

Not filelock's, except on Windows: its files are opened for writing, which in a folder such as /run/lock only the user
who made them may do.
"""

import contextlib
import os
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from filelock import ReadWriteLock, Timeout

from imgcls.errors import ConfigError

FOLDER_VARIABLE: Final = "IMGCLS_LOCKS"
"""Environment variable with the folder of the locks, for containers that share a machine, and for tests."""

SHARED_FOLDERS: Final = (Path("/run/lock"), Path("/var/lock"), Path("/tmp"))  # noqa: S108 - it has to be shared
"""Not the folder of temporary files, which may differ between users and between two shells of one user."""

POLL_S: Final = 0.05


def lock_folder() -> Path:
    """Return ``$IMGCLS_LOCKS``, or the first of ``SHARED_FOLDERS`` in which every user may create files.

    On Windows it is the folder of temporary files, of which each user has one.
    """
    if chosen := os.environ.get(FOLDER_VARIABLE):
        return Path(chosen)
    for folder in () if sys.platform == "win32" else SHARED_FOLDERS:
        # By the permission and not by trying, so that root uses the same folder as all other users.
        with contextlib.suppress(OSError):
            if folder.stat().st_mode & stat.S_IWOTH:
                return folder
    return Path(tempfile.gettempdir())


if sys.platform == "win32":

    def machine_lock(name: str) -> ReadWriteLock:
        """Return a lock of this machine that readers hold together and a writer holds alone."""
        # Not a singleton: threads that share an instance would get an error instead of waiting for each other.
        return ReadWriteLock(str(lock_folder() / name), is_singleton=False)

else:
    import fcntl

    class MachineLock:
        """A lock of this machine that readers hold together and a writer holds alone. Writers do not go first."""

        def __init__(self, path: Path) -> None:
            """Name the file of the lock, which is made when the lock is first acquired."""
            self._path = path
            self._descriptor: int | None = None

        def acquire_read(self, timeout: float) -> None:
            """Hold the lock together with other readers; raises Timeout after ``timeout`` seconds."""
            self._acquire(fcntl.LOCK_SH, timeout)

        def acquire_write(self, timeout: float) -> None:
            """Hold the lock alone; raises Timeout after ``timeout`` seconds."""
            self._acquire(fcntl.LOCK_EX, timeout)

        def release(self) -> None:
            """Release the lock."""
            assert self._descriptor is not None, "a lock that is not held is released"
            os.close(self._descriptor)
            self._descriptor = None

        def _acquire(self, kind: int, timeout: float) -> None:
            assert self._descriptor is None, "a lock that is held is acquired again"
            try:
                descriptor = self._open()
                acquired = False
                try:
                    acquired = _lock(descriptor, kind, timeout)
                finally:
                    if not acquired:
                        os.close(descriptor)
            except OSError as error:
                message = (
                    f"{self._path}: the lock of this machine cannot be used ({error.strerror}); set {FOLDER_VARIABLE} "
                    "to a folder in which all users of this machine may create files"
                )
                raise ConfigError(message) from error
            if not acquired:
                raise Timeout(str(self._path))
            self._descriptor = descriptor

        def _open(self) -> int:
            # Neither for writing nor through links: in such a folder strangers may have put files.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with contextlib.suppress(FileExistsError):
                created = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(created, 0o644)  # whatever the umask: other users must be able to open it
                return created
            return os.open(self._path, flags)

    def machine_lock(name: str) -> MachineLock:
        """Return a lock of this machine that readers hold together and a writer holds alone."""
        return MachineLock(lock_folder() / name)

    def _lock(descriptor: int, kind: int, timeout: float) -> bool:
        """Return whether the lock was acquired within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_S)
            else:
                return True
