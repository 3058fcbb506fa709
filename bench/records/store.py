"""The record of a run: its schema, its ids, writing whole or not at all, reading back."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from bench.records.history import upgrade_record
from bench.records.schema import (
    SCHEMA_VERSION,
    RunRecord,
)

# 1: first.
# 2: config.train has schedule, select, weight_decay and label_smoothing (before: plateau, best, 0, 0, which are their
#    defaults); tuning. Records of version 1 are read as such.
# 3: measurements have a kind, settings, rounds and disturbance; checks; parity has mean error, cosine and paired
#    counts. Older ones are read with these left empty.
# 4: folds in config.split and a digest of them; calibration; how often test was scored.
# 5: identity leaves out what stands at a frozen default (``bench.ids``); config.budget and config.overrides; status,
#    validity and protocol of a measurement apart, and its session; latency by the machine that measured; derived_from;
#    the npz has log-probabilities, raw and calibrated, and groups. ``bench.history`` reads older versions as this one.

OUTCOME: Final = "outcome.json"
"""Written last: its existence means that training, evaluation and export are done."""


def to_json(content: object) -> str:
    """Give JSON text; a NaN or an infinity is a bug and raises ValueError."""
    return json.dumps(msgspec.to_builtins(content), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def write_json(content: object, path: Path) -> None:
    """Write content as JSON, whole or not at all."""
    write_text(to_json(content), path)


def write_text(text: str, path: Path) -> None:
    """Write a text file whole or not at all; raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def record_path(results: Path, record: RunRecord) -> Path:
    """Give the place of a record: ``records/<machine>/<run_id>.json``."""
    return results / "records" / record.environment.machine / f"{record.run_id}.json"


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

Versioned = TypeVar("Versioned")


def read_versioned(path: Path, kind: type[Versioned], *, key: str, version: int, upgrade: Upgrade) -> Versioned:
    """Read what ``write_json`` wrote, of ``version`` or, through ``upgrade``, of an older one.

    Raises ValueError if the file is cut short, or of a version that this code does not know.
    """
    data = path.read_bytes()
    try:
        found = msgspec.json.decode(msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get(key, b"null"))
        if found == version:
            return msgspec.json.decode(data, type=kind)
        if not isinstance(found, int) or not 1 <= found < version:
            message = f"{key.replace('_', ' ')} {found}, this code reads 1 to {version}"
            raise ValueError(message)
        return msgspec.convert(upgrade(msgspec.json.decode(data)), type=kind)
    except msgspec.MsgspecError as error:
        message = f"not a whole record ({error})"
        raise ValueError(message) from error


def read_record(path: Path) -> RunRecord:
    """Read one record of this schema or of an older one; raises ValueError if it cannot be read."""
    return read_versioned(path, RunRecord, key="schema_version", version=SCHEMA_VERSION, upgrade=upgrade_record)


def read_if_whole(path: Path) -> RunRecord | None:
    """Read one record, or give None where there is none that can be read."""
    try:
        return read_record(path)
    except (OSError, ValueError):
        return None


def read_records(results: Path, *, warn: Callable[[str], None]) -> list[RunRecord]:
    """Read all records of a results folder, in order of path; an unreadable one is named and skipped."""
    records = []
    for path in sorted((results / "records").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except (ValueError, OSError) as error:
            warn(f"skipped {path.relative_to(results).as_posix()}: {error}")
    return records
