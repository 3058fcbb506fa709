"""Runs whose artifacts were copied to this machine: each with its record, which travels in the artifact folder."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.records.paths import OUTCOME, PLACE
from bench.records.schema import RunRecord
from bench.records.store import read_record
from imgcls.errors import ConfigError
from imgcls.messages import Setting

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A run whose artifacts lie in ``folder``."""

    record: RunRecord
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """The runs that were found, and the reasons why others cannot be measured."""

    found: tuple[Copy, ...]
    skipped: tuple[str, ...]


def find_copies(folder: Path) -> Copies:
    """Return the runs with artifacts in a folder or below it.

    Raises ConfigError if there is no such folder, no artifacts are in it, or none of them has a readable record.
    """
    if not folder.is_dir():
        reason = ": no such folder; copy artifacts/<train_id> of a results folder to this machine"
        raise ConfigError(Setting("artifacts", str(folder)), reason)
    homes = sorted(path.parent for path in folder.rglob(OUTCOME))
    if not homes:
        reason = f": no {OUTCOME} there or below, so no artifacts of a finished training"
        raise ConfigError(Setting("artifacts", str(folder)), reason)
    copies: dict[str, Copy] = {}
    skipped = []
    for home in homes:
        for record in _records(home):
            if isinstance(record, str):
                skipped.append(record)
            elif record.run_id in copies:
                skipped.append(f"{home}: run {record.run_id} is in {copies[record.run_id].folder} too")
            else:
                copies[record.run_id] = Copy(record=record, folder=home)
    if not copies:
        raise ConfigError(Setting("artifacts", str(folder)), f": {skipped[0]}")
    return Copies(found=tuple(copies.values()), skipped=tuple(skipped))


def _records(home: Path) -> Iterator[RunRecord | str]:
    """Yield the records in an artifact folder, and for each that cannot be used, the reason."""
    paths = [path for path in sorted(home.glob("*.json")) if path.name not in {OUTCOME, PLACE}]
    if not paths:
        yield f"{home} has no record of its run; copy records/<machine>/<run_id>.json of the results folder into it"
    for path in paths:
        try:
            record = read_record(path)
        except (ValueError, OSError) as error:
            yield f"{path}: {error}"
            continue
        yield record if record.outcome is not None else f"{path}: the record of a failed run"
