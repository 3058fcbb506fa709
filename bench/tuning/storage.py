"""Storage of Optuna studies: opening a database with a time limit, and locks across processes and machines."""

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus

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
"""A running trial without a heartbeat for this many seconds is marked as failed, and retried once."""

CONNECT_LIMIT_S: Final = 10.0

# SQLite has one writer at a time. After the default wait of 5 s, a worker that waits for others would fail its trial.
SQLITE_WAIT_S: Final = 60

HIDDEN: Final = "***"

LOCKS: Final = {
    "postgresql": ("SELECT pg_advisory_lock(hashtext(:name))", "SELECT pg_advisory_unlock(hashtext(:name))"),
}
"""Statements that lock and unlock a name, by database; the server unlocks it when the connection ends."""


def default_url(results: Path) -> str:
    """Return the URL of the SQLite database of a results folder, and create its folder."""
    database = Paths(results=results.absolute()).sweeps / "studies.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{database}"


def open_storage(url: str) -> RDBStorage:
    """Open a storage; raises ConfigError if that fails or takes more than ten seconds. No message holds a password."""
    parsed = _parsed(url)
    redacted = _shown(parsed)
    # In a thread, because the drivers have no common option for a time limit; a daemon, so that a connection that hangs
    # does not keep the process alive.
    outcome: list[RDBStorage | Exception] = []
    thread = threading.Thread(target=_connect, args=(url, outcome), daemon=True)
    thread.start()
    thread.join(CONNECT_LIMIT_S)
    if not outcome:
        message = f"--storage {redacted}: no answer within {CONNECT_LIMIT_S:g} s"
        raise ConfigError(message)
    if isinstance(outcome[0], Exception):
        lines = [line for line in str(outcome[0]).splitlines() if line.strip()] or [type(outcome[0]).__name__]
        message = f"--storage {redacted}: cannot be opened ({_veiled(lines[0], parsed)})"
        # Without its cause, whose text may quote what the driver could not use.
        raise ConfigError(message) from None
    return outcome[0]


def _parsed(url: str) -> sqlalchemy.URL:
    """Return the parts of a URL; raises ConfigError if it is not a URL of a database."""
    try:
        return make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):  # ValueError: the port is no number
        # What stands before the last @ may be a password, wherever the mistake is, and so may what follows a ?.
        place = url.partition("?")[0].rpartition("@")
        shown = f"{HIDDEN}@{place[2]}" if place[1] else place[2]
        message = (
            f"--storage {shown}: not a database URL; use for example sqlite:///studies.db or "
            "postgresql+psycopg://host/db"
        )
        raise ConfigError(message) from None


def _shown(url: sqlalchemy.URL) -> str:
    """Return a URL without its password and the values of its options, one of which may be a password too."""
    # A password with an @ that is not written as %40 is in part taken for the host.
    host = url.host and url.host.rpartition("@")[2]
    shown = url.set(host=host, query={}).render_as_string(hide_password=True)
    return f"{shown}?{HIDDEN}" if url.query else shown


def _veiled(text: str, url: sqlalchemy.URL) -> str:
    """Return the text of a driver without the secrets of a URL, as they are and as a URL writes them."""
    options = [value for name, values in url.query.items() if "pass" in name for value in _listed(values)]
    secrets = {str(url.password or ""), (url.host or "").rpartition("@")[0], *options}
    for secret in sorted(secrets | set(map(quote, secrets)) | set(map(quote_plus, secrets)), key=len, reverse=True):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text


def _listed(values: str | Sequence[str]) -> Sequence[str]:
    return [values] if isinstance(values, str) else values


def _connect(url: str, outcome: list[RDBStorage | Exception]) -> None:
    try:
        outcome.append(_storage(url))
    except Exception as error:  # noqa: BLE001 - every driver has errors of its own; the caller reports them
        outcome.append(error)


def _storage(url: str) -> RDBStorage:
    """Open the database, and create Optuna's tables if they are missing."""
    # A server may close the connection during a long trial; pre-ping replaces it before it is used.
    options: dict[str, Any] = {"pool_pre_ping": True}
    parsed = make_url(url)
    if parsed.get_backend_name() not in {"sqlite", *LOCKS}:
        message = f"known databases: sqlite, {', '.join(LOCKS)}"
        raise ValueError(message)
    if parsed.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": SQLITE_WAIT_S}
        # SQLite itself only reports that it is "unable to open database file".
        if not parsed.database or not Path(parsed.database).absolute().parent.is_dir():
            message = "no such folder"
            raise FileNotFoundError(message)
    engine = sqlalchemy.create_engine(url, **options)
    # Under a lock, because processes that create the tables at the same time fail. RDBStorage creates them in its
    # constructor, so that the lock needs an engine of its own.
    with contextlib.ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.enter_context(_locked(engine, "optuna tables"))
        return RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=GRACE_S,
            # A retry resumes after the rungs that the killed trial had passed, and does not report their scores again.
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(
                max_retry=1, inherit_intermediate_values=True
            ),
        )


def locked(storage: RDBStorage, name: str) -> contextlib.AbstractContextManager[None]:
    """Return the exclusive lock of a study for all processes and machines; it is released if its holder dies."""
    return _locked(storage.engine, name)


@contextlib.contextmanager
def _locked(engine: sqlalchemy.Engine, name: str) -> Iterator[None]:
    # SQLite has no advisory locks, and an open write transaction would block Optuna's own writes.
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
    """Silence Optuna's own log lines and warnings."""
    # The result of each trial is in our table, the storage and the study's page. Heartbeats are marked experimental.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
