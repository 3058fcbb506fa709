"""The hub of models and data sets: whether it can be reached, and files of it, downloaded or from its cache."""

import errno
import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Final, TypeVar

# The package loads its modules, and with them an HTTP library, when their names are first used.
import huggingface_hub
from huggingface_hub import constants

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

LOGGER = logging.getLogger(__name__)

ANSWER_S: Final = 30.0
"""Deadline of one question to the hub in seconds, name look-up, connection and redirects included."""

SLOWEST_BYTES_PER_S: Final = 50_000
"""A download has ``ANSWER_S`` and the time that its bytes take at this rate."""

UNKNOWN_BYTES: Final = 500_000_000
"""For the deadline of a file whose size the hub does not say."""

SHA256: Final = re.compile(r"[0-9a-f]{64}")

DISK_ERRORS: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}

REFUSALS: Final[dict[str | int, str]] = {
    "RevisionNotFound": "it has no revision {revision!r}; name a branch, tag or commit of {page}/commits/main",
    "EntryNotFound": "it has no file {name} at revision {revision}",
    "GatedRepo": "access is gated ({status}); accept its conditions at {page}, and log in (hf auth login, or HF_TOKEN)",
    "token": "the hub refuses the token ({status}{said}); log in with a new one (hf auth login, or HF_TOKEN)",
    401: "it does not exist or needs a login ({status}{said}); log in (hf auth login, or HF_TOKEN)",
    403: "the hub refuses access ({status}{said}); check the permissions of the token and the network's rules",
    404: "the hub has no such repository ({status}{said}); check HF_ENDPOINT, and whether the account may read it",
    429: "too many requests for the hub ({status}{said}); try again {later}, or log in (hf auth login, or HF_TOKEN)",
    **dict.fromkeys((500, 502, 503, 504), "the hub has a fault ({status}{said}); try again later"),
    511: "the network asks for a login ({status}); log in with a browser",
}
"""What a refusal means and what to do, by the hub's ``X-Error-Code`` or by status."""

OTHER_REFUSAL: Final = "the hub answers with status {status}{said}; try again later, or check HF_ENDPOINT and the proxy"

MISSING: Final = ("RevisionNotFound", "EntryNotFound")

T = TypeVar("T")


class HubError(Exception):
    """Why a file of the hub cannot be had, and what to do, on one line."""


class MissingError(HubError):
    """The hub says that the repository has no such file or revision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """A file in the hub's cache on this machine, the commit that it belongs to, and its SHA-256 in hexadecimal."""

    path: Path
    revision: str
    sha256: str


def why_unreachable() -> str | None:
    """Ask the hub for an answer, of any status; return why there is none within ``ANSWER_S``, or None if there is one.

    In offline mode the hub is not asked.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        within(
            ANSWER_S,
            lambda: huggingface_hub.get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT),
        )
    except Exception as error:  # noqa: BLE001 - each version has another HTTP library with errors of its own
        return _line(error)
    return None


def hub_answers() -> bool:
    """Return whether the hub answers within ``ANSWER_S``; False in offline mode."""
    return why_unreachable() is None


def fetch(repo: str, name: str, *, revision: str | None = None, unreachable: str | None = None) -> HubFile:
    """Return a file of a repository of models: downloaded, or from the hub's cache on this machine.

    ``revision`` is a branch, tag or commit; None: the default branch. ``unreachable`` is why the hub cannot be reached,
    if that is known; it is not asked then. If it refuses or has a fault, the cache is used, with a warning.

    Raises HubError if the file cannot be had, or if its SHA-256 is not that of its ETag, in which case it is deleted
    from the cache; MissingError if the repository has no such file or revision.
    """
    from huggingface_hub.utils.logging import set_verbosity  # noqa: PLC0415 - loads an HTTP library

    if unreachable is not None:
        return _from_cache(repo, name, revision, _unreachable(unreachable))
    # What the library logs about retries is in its error, too.
    set_verbosity(logging.ERROR)
    try:
        metadata = _ask(repo, name, revision)
    except MissingError:
        raise
    except HubError as fault:
        file = _from_cache(repo, name, revision, fault)
        LOGGER.warning("%s: %s; until then, %s comes from the hub's cache on this machine", repo, fault, name)
        return file
    return _verified(_download(repo, name, revision, metadata.size), metadata.etag)


def find_cached(repo: str, name: str, *, revision: str | None = None) -> Path | None:
    """Return the path of a file in the hub's cache on this machine, or None; its content is not read."""
    entry = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
    # The library returns an object of its own if it has stored that the file does not exist.
    return Path(entry) if isinstance(entry, str) else None


def has_file(repo: str, name: str, *, revision: str | None = None) -> bool:
    """Return whether the hub says that a repository has a file; False if it does not answer."""
    try:
        _ask(repo, name, revision)
    except HubError:
        return False
    return True


def _from_cache(repo: str, name: str, revision: str | None, fault: HubError) -> HubFile:
    file = find_cached(repo, name, revision=revision)
    if file is None:
        message = f"not in the hub's cache on this machine, and {fault}"
        raise HubError(message) from fault
    return _verified(file, None)


def _unreachable(reason: str) -> HubError:
    return HubError(f"the hub cannot be reached ({reason}); check the network and the proxy")


def _ask(repo: str, name: str, revision: str | None) -> "HfFileMetadata":
    """Return what the hub says about a file; raises HubError."""
    # Asked before a download: the library retries one whose first question fails for minutes, and its error then does
    # not say whether the hub refused, had a fault or was not there.
    try:
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        metadata = within(
            ANSWER_S, lambda: huggingface_hub.get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        )
    except Exception as error:
        if (refusal := _refusal(error, repo, name, revision)) is not None:
            raise refusal from error
        raise _unreachable(_line(error)) from error
    if metadata.commit_hash is None or metadata.etag is None:
        message = f"what answers at {constants.ENDPOINT} is not the hub (no commit or ETag), perhaps the login page of"
        message += " a network; log in with a browser, or check HF_ENDPOINT"
        raise HubError(message)
    return metadata


def _download(repo: str, name: str, revision: str | None, size: int | None) -> Path:
    """Return the path in the cache of a file that the hub has; raises HubError."""
    deadline_s = ANSWER_S + (UNKNOWN_BYTES if size is None else size) / SLOWEST_BYTES_PER_S
    try:
        # The library warns of a disk that is too small, which its error says, too.
        with warnings.catch_warnings(action="ignore"):
            return Path(within(deadline_s, lambda: huggingface_hub.hf_hub_download(repo, name, revision=revision)))
    except Exception as error:
        if (refusal := _refusal(error, repo, name, revision)) is not None:
            raise refusal from error
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            needed = "" if size is None else f" {size / 1e6:,.1f} MB"
            message = f"cannot write{needed} into {constants.HF_HUB_CACHE} ({error.strerror}); free space there, or set"
            message += " HF_HOME to a folder on another disk"
        else:
            message = f"the download of {name} failed ({_line(error.__cause__ or error)}); try again"
        raise HubError(message) from error


def _verified(file: Path, etag: str | None) -> HubFile:
    """Return a file of the cache if its SHA-256 is that of its ETag; else delete it and raise HubError.

    The cache names the content of a file by its ETag, and links to it; ``etag`` is for systems without links. The ETag
    of a file that is not in Git LFS is another hash, which is not compared.
    """
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    stored = file.parent / file.readlink() if file.is_symlink() else None
    expected = etag if stored is None else stored.name
    if expected is not None and SHA256.fullmatch(expected) and expected != sha256:
        # The content may be a link itself, to a store that several caches share.
        for path in (file.resolve(), stored or file, file):
            path.unlink(missing_ok=True)
        message = f"{file.name} is not what the hub says it is (SHA-256 {sha256[:16]}, not {expected[:16]}); it was"
        message += " deleted; try again, from another network if this persists"
        raise HubError(message)
    return HubFile(path=file, revision=file.parent.name, sha256=sha256)


def _refusal(error: Exception, repo: str, name: str, revision: str | None) -> HubError | None:
    """Return what the status of the hub's answer means; None if the error is not about an answer with a status."""
    # LocalEntryNotFoundError has the answer as its cause.
    responses: list[Any] = [getattr(cause, "response", None) for cause in (error, error.__cause__)]
    # Not ``or``: a response of requests is false if it is a refusal.
    response = responses[0] if responses[0] is not None else responses[1]
    if response is None:
        return None
    status, code = response.status_code, response.headers.get("X-Error-Code")
    said = response.headers.get("X-Error-Message")
    # A hub with a limit on requests may say when it takes more of them.
    limit = response.headers.get("RateLimit", "")
    wait_s = response.headers.get("Retry-After", "") or "".join(re.findall(r"\bt=(\d+)", limit)[:1])
    with_token = status == HTTPStatus.UNAUTHORIZED and "authorization" in response.request.headers
    text = REFUSALS.get(code) or REFUSALS.get("token" if with_token else status) or OTHER_REFUSAL
    message = text.format(
        status=status,
        said=f": {_short(said)}" if said else "",
        page=f"{constants.ENDPOINT}/{repo}",
        name=name,
        revision=revision or constants.DEFAULT_REVISION,
        later=f"in {wait_s} s" if wait_s.isdigit() else "in some minutes",
    )
    return MissingError(message) if code in MISSING else HubError(message)


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call, or raise its error; raises TimeoutError after some seconds."""
    # In a thread, because no timeout of the HTTP libraries covers the name look-up, or a server that sends a byte now
    # and then; a daemon, because a call that hangs must not keep the process alive.
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
            outcome.set_exception(error)

    caller = threading.Thread(target=run, daemon=True)
    caller.start()
    caller.join(seconds)
    if caller.is_alive():
        message = f"no end within {seconds:.0f} s"
        raise TimeoutError(message)
    return outcome.result()


def _line(error: BaseException) -> str:
    return _short(str(error)) or type(error).__name__


def _short(text: str) -> str:
    """Return a text as one line of at most 160 characters."""
    return shorten(text, 160, placeholder=" ...")
