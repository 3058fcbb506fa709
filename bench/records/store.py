"""Reading and writing of records; writing is atomic, and records of older versions can be read."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bench.records.history import upgrade_record
from bench.records.paths import Paths
from bench.records.schema import SCHEMA_VERSION, RunRecord
from imgcls.files import write_text

LOGGER = logging.getLogger(__name__)


def to_json(content: object) -> str:
    """Return JSON text; raises ValueError for NaN and infinity, which JSON cannot represent."""
    # Not msgspec's encoder, which writes NaN as null. Indented, so that git shows changes of records by line.
    return json.dumps(msgspec.to_builtins(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_json(content: object, path: Path) -> None:
    """Write content as JSON, atomically."""
    write_text(to_json(content), path)


def record_path(results: Path, record: RunRecord) -> Path:
    """Return the path of a record: ``records/<machine>/<run_id>.json``."""
    return Paths(results=results).record(record.environment.machine, record.run_id)


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Maps the content of a file of an older version to that of the present version."""

Versioned = TypeVar("Versioned")


def read_versioned(path: Path, kind: type[Versioned], *, key: str, version: int, upgrade: Upgrade) -> Versioned:
    """Read a file of ``write_json``, of ``version`` or, after ``upgrade``, of an older one.

    Raises ValueError if the file is damaged, or of a version that this code does not know.
    """
    data = path.read_bytes()
    try:
        # Raw leaves the other fields undecoded, so that a file of this version is decoded once, directly to its type.
        found = msgspec.json.decode(msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get(key, b"null"))
        if found == version:
            return msgspec.json.decode(data, type=kind)
        if not isinstance(found, int) or not 1 <= found < version:
            message = f"{key.replace('_', ' ')} {found}; this code reads versions 1 to {version}"
            raise ValueError(message)
        return msgspec.convert(upgrade(msgspec.json.decode(data)), type=kind)
    except msgspec.MsgspecError as error:
        message = f"not a complete record ({error})"
        raise ValueError(message) from error


def read_record(path: Path) -> RunRecord:
    """Read one record of this schema or of an older one; raises ValueError if it cannot be read."""
    return read_versioned(path, RunRecord, key="schema_version", version=SCHEMA_VERSION, upgrade=upgrade_record)


def read_if_whole(path: Path) -> RunRecord | None:
    """Read one record; return None if it does not exist or cannot be read."""
    try:
        return read_record(path)
    except (OSError, ValueError):
        return None


def read_records(results: Path) -> list[RunRecord]:
    """Read all records of a results folder, in order of path; an unreadable one is skipped with a warning."""
    records = []
    for path in Paths(results=results).all_records():
        try:
            records.append(read_record(path))
        except (ValueError, OSError) as error:
            LOGGER.warning("skipped %s: %s", path.relative_to(results).as_posix(), error)
    return records
