"""Where Optuna keeps studies: opened within ten seconds or refused, and locked across processes and machines."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import make_url

from bench.records.paths import Paths
from imgcls.errors import ConfigError

HEARTBEAT_S: Final = 5

GRACE_S: Final = 30
"""A running trial whose process has not been heard of for so long is given up, and tried once more."""

CONNECT_LIMIT_S: Final = 10.0

SQLITE_WAIT_S: Final = 60

LOCKS: Final = {
    "postgresql": ("SELECT pg_advisory_lock(hashtext(:name))", "SELECT pg_advisory_unlock(hashtext(:name))"),
}
"""How a server's database locks a name for one connection, and frees it when the connection ends."""


def default_url(results: Path) -> str:
    """Return the SQLite database of a results folder, and make its folder."""
    database = Paths(results=results.absolute()).sweeps / "studies.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{database}"


def open_storage(url: str) -> RDBStorage:
    """Connect within ten seconds; raises ConfigError where that fails."""
    shown = _shown(url)
    outcome: list[RDBStorage | Exception] = []
    thread = threading.Thread(target=_connect, args=(url, outcome), daemon=True)
    thread.start()
    thread.join(CONNECT_LIMIT_S)
    if not outcome:
        message = f"--storage {shown}: no answer within {CONNECT_LIMIT_S:g} s"
        raise ConfigError(message)
    if isinstance(outcome[0], Exception):
        lines = [line for line in str(outcome[0]).splitlines() if line.strip()] or [type(outcome[0]).__name__]
        message = f"--storage {shown}: cannot be opened ({lines[0]})"
        raise ConfigError(message) from outcome[0]
    return outcome[0]


def _shown(url: str) -> str:
    """Return a URL without its password; raises ConfigError where it is none."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        message = (
            f"--storage {url}: not a database URL; use such as sqlite:///studies.db or postgresql+psycopg://host/db"
        )
        raise ConfigError(message) from None


def _connect(url: str, outcome: list[RDBStorage | Exception]) -> None:
    try:
        outcome.append(_storage(url))
    except Exception as error:  # noqa: BLE001 - any driver's error is the answer, told by the caller
        outcome.append(error)


def _storage(url: str) -> RDBStorage:
    """Open under a lock: two processes that make the tables at once trip over each other."""
    options: dict[str, Any] = {"pool_pre_ping": True}
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"sqlite", *LOCKS}:
        message = f"known databases: sqlite, {', '.join(LOCKS)}"
        raise ValueError(message)
    if parsed.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": SQLITE_WAIT_S}
        if not parsed.database or not Path(parsed.database).absolute().parent.is_dir():
            message = "no such folder"
            raise FileNotFoundError(message)
    engine = sqlalchemy.create_engine(url, **options)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.enter_context(_locked(engine, "optuna tables"))
        return RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(
                max_retry=1, inherit_intermediate_values=True
            ),
        )


def locked(storage: RDBStorage, name: str) -> contextlib.AbstractContextManager[None]:
    """Hold a study alone among all processes, and all machines of a server's database; it ends with its holder."""
    return _locked(storage.engine, name)


@contextlib.contextmanager
def _locked(engine: sqlalchemy.Engine, name: str) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        with FileLock(f"{engine.url.database}.lock"):
            yield
        return
    take, free = LOCKS[engine.dialect.name]
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(take), {"name": name})
        try:
            yield
        finally:
            connection.execute(sqlalchemy.text(free), {"name": name})


def quiet() -> None:
    """Leave Optuna's own lines out: what a trial did is in the table, the storage and the report."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
