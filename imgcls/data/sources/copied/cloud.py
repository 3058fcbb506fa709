"""Objects of a cloud below a prefix, or shards there: listed by every command, and downloaded once, through fsspec."""

import errno
import hashlib
import importlib.util
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar

from imgcls.data.sources.copied.mirror import DOWNLOADS, Remote, mirror
from imgcls.data.sources.copied.patterns import MAGIC, PatternError, expand, stem_of
from imgcls.data.sources.copied.shards import PREFIX
from imgcls.errors import ConfigError, DataError
from imgcls.hub import within
from imgcls.messages import Setting

Result = TypeVar("Result")

URL: Final = re.compile(r"(?:wds:)?([a-z][a-z0-9+.-]+)://")
PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "file": "fsspec", "memory": "fsspec"}
"""The package that each scheme needs; ``file`` and ``memory`` are for trials."""
ANSWER_S: Final = 20.0
"""Deadline of the first question: the libraries try an address that does not answer several times."""
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}}
}
# Of S3, an ETag is a hash of the content and of its parts.
VERSIONS: Final = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
"""What fsspec's file systems call the version of an object; the first that one has is compared."""
NOTHING: Final = "no objects with this prefix"
HINTS: Final = {
    "s3": "check the name, the network, AWS_ENDPOINT_URL, and the credentials (AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY)",
    "gs": "check the name, the network, and GOOGLE_APPLICATION_CREDENTIALS",
    "az": "check the name, the network, and AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


def is_url(data: str) -> bool:
    """Return whether a data set lies in a cloud: a URL, or shards with a URL."""
    return URL.match(data) is not None and not data.startswith("hf:")


def name_of(data: str) -> str:
    """Return the name of a data set in a cloud: the last part of its prefix, or what the names of its shards share."""
    path = data.removeprefix(PREFIX).partition("://")[2].rstrip("/")
    return stem_of(path) if data.startswith(PREFIX) else PurePosixPath(path).name


def local_copy(data: str, *, cache: Path) -> str:
    """Return the folder in ``cache`` that holds the objects of a URL, or its shards, after downloading what changed.

    Raises ConfigError for a scheme that is not known or whose package is not installed; DataError if there are no
    objects, or if they cannot be read; OSError if the disk is full.
    """
    match = URL.match(data)
    assert match is not None
    scheme, url = match[1], data.removeprefix(PREFIX)
    _require_package(data, scheme)
    import fsspec  # noqa: PLC0415 - an optional package

    def listed() -> tuple[Any, list[Remote]]:
        options = {"use_listings_cache": False, "skip_instance_cache": True, **OPTIONS.get(scheme, {})}
        system, path = fsspec.core.url_to_fs(url, **options)
        objects = _shards(system, path) if data.startswith(PREFIX) else _below(system, path)
        return system, objects

    folder = cache / "cloud" / f"{scheme}-{hashlib.sha256(data.encode()).hexdigest()[:16]}"
    root = folder / (name_of(data) or scheme)
    try:
        system, objects = listed()
        mirror(objects, root, fetch=system.get_file, ask=lambda name: _remote(system.info(name), name), shown=data)
    except PatternError as error:
        raise DataError(Setting("data", data), f": {error}") from error
    except (ConfigError, DataError):
        raise
    except Exception as error:  # the libraries have no common base of their errors
        if isinstance(error, OSError) and _is_of_the_disk(error, cache):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = f"; {HINTS[scheme]}" if scheme in HINTS else ""
        raise DataError(Setting("data", data), f": cannot be read ({reason}){hint}") from error
    return f"{PREFIX}{root}" if data.startswith(PREFIX) else str(root)


def _is_of_the_disk(error: OSError, cache: Path) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT} or str(error.filename).startswith(str(cache))


def _require_package(data: str, scheme: str) -> None:
    if scheme not in PACKAGES:
        raise ConfigError(Setting("data", data), f": unknown scheme; use one of {', '.join(PACKAGES)}")
    for package in ("fsspec", PACKAGES[scheme]):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(Setting("data", data), f": needs the package {package}; pip install -e '.[cloud]'")


def _below(system: Any, path: str) -> list[Remote]:  # noqa: ANN401 - a file system of fsspec, which ships no types
    """Return the objects below a prefix."""
    try:
        kind = within(ANSWER_S, lambda: system.info(path))["type"]
    except FileNotFoundError as error:
        if str(error) != path:  # a reason, such as that there is no such bucket
            raise
        raise PatternError(NOTHING) from error
    if kind == "file":
        message = "an object; give the prefix of its folder"
        raise PatternError(message)
    listed: dict[str, dict[str, Any]] = system.find(path, detail=True)
    objects = [_remote(info, _relative(name, path)) for name, info in listed.items() if not name.endswith("/")]
    if not objects:
        raise PatternError(NOTHING)
    return objects


def _relative(name: str, path: str) -> str:
    return name.removeprefix(path.rstrip("/")).removeprefix("/")


def _shards(system: Any, pattern: str) -> list[Remote]:  # noqa: ANN401
    """Return the objects of a pattern, below the last folder that all names have in common."""
    match = MAGIC.search(pattern)
    start = pattern[: pattern[: match.start() if match else len(pattern)].rfind("/") + 1]

    def of(name: str) -> list[dict[str, Any]]:
        if not MAGIC.search(name):
            return [system.info(name)]
        matches: list[dict[str, Any]] = list(system.glob(name, detail=True).values())
        if not matches:
            message = f"no object matches {name}"
            raise PatternError(message)
        return matches

    names = expand(pattern)
    first = within(ANSWER_S, lambda: of(names[0]))
    infos = first + [info for each in _at_once(of, names[1:]) for info in each]
    return [_remote(info, _relative(info["name"], start)) for info in infos]


def _at_once(call: Callable[[str], Result], names: list[str]) -> list[Result]:
    with ThreadPoolExecutor(DOWNLOADS) as pool:
        return list(pool.map(call, names))


def _remote(info: dict[str, Any], relative: str) -> Remote:
    version = next((info[key] for key in VERSIONS if info.get(key) is not None), "")
    return Remote(name=info["name"], relative=relative, size=info["size"], version=str(version).strip('"'))
