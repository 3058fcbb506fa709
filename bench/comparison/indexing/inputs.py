"""The files from which each table of a results folder is made, and the digests of their bytes."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

from bench.comparison.tables import TableKey, order_of, table_key
from bench.records.paths import Paths
from bench.records.predictions import prediction_files
from bench.records.schema import RunRecord
from bench.records.store import read_latency_file, read_own_record, unmatched, warn_of_skipped
from imgcls.files import read_regular
from imgcls.parallel import map_chunks

UNREADABLE: Final = "errno "
"""Beginning of what stands for the digest of a file that cannot be read."""

NO_DIGESTS: Final = MappingProxyType[Path, str]({})

COST_BYTES: Final = 10_000
"""Work of reading a record, in bytes as ``map_chunks`` counts it: from 400 records on, all cores read them."""


FEW: Final = 200
"""Records that stay in memory between finding their tables and making these; the others are read twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordEntry:
    """Whose record a file of this digest is, and in which table; or why it is skipped.

    ``onnx_sha256`` is that of the exported file; None of a failed run.
    """

    digest: str
    table: TableKey | None = None
    run_id: str = ""
    train_id: str = ""
    onnx_sha256: str | None = None
    skipped: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyEntry:
    """Of which run and exported file the latency file of this digest is; or why it is skipped."""

    digest: str
    run_id: str = ""
    onnx_sha256: str = ""
    skipped: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TableFiles:
    """The files of a table: its records, their latency files, and all places where their predictions may be."""

    records: tuple[Path, ...]
    measured: tuple[Path, ...]
    predictions: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The records and latency files of a results folder, by their paths in it."""

    records: dict[str, RecordEntry]
    measured: dict[str, LatencyEntry]

    def tables(self, results: Path) -> dict[TableKey, TableFiles]:
        """Return the files of each table, in the order of the tables; latency files without a run are in none."""
        finished = {entry.run_id: entry.onnx_sha256 for entry in self.records.values() if entry.onnx_sha256 is not None}
        latency: defaultdict[str, list[Path]] = defaultdict(list)
        for path, measured in self.measured.items():
            if not measured.skipped and unmatched(measured.run_id, measured.onnx_sha256, finished) is None:
                latency[measured.run_id].append(results / path)
        rows: defaultdict[TableKey, list[tuple[Path, RecordEntry]]] = defaultdict(list)
        for path, entry in self.records.items():
            if entry.table is not None:
                rows[entry.table].append((results / path, entry))
        paths = Paths(results=results)
        return {
            key: TableFiles(
                records=tuple(path for path, _ in rows[key]),
                measured=tuple(path for _, entry in rows[key] for path in latency[entry.run_id]),
                predictions=tuple(
                    file
                    for path, entry in rows[key]
                    for file in prediction_files(paths, path.parent.name, entry.run_id, entry.train_id)
                ),
            )
            for key in sorted(rows, key=order_of)
        }

    def digests(self, results: Path) -> dict[Path, str]:
        """Return the digests of all records and latency files."""
        entries = (self.records | self.measured).items()
        return {results / path: entry.digest for path, entry in entries}

    def warn(self, results: Path) -> None:
        """Log why files are skipped, as reading all of them does."""
        for path, entry in self.records.items():
            if entry.skipped:
                warn_of_skipped(results / path, results, entry.skipped)
        finished = {entry.run_id: entry.onnx_sha256 for entry in self.records.values() if entry.onnx_sha256 is not None}
        for path, measured in self.measured.items():
            reason = measured.skipped or unmatched(measured.run_id, measured.onnx_sha256, finished)
            if reason:
                warn_of_skipped(results / path, results, reason)


NOTHING_KNOWN: Final = Inputs(records={}, measured={})


def inputs_of(paths: Paths, known: Inputs = NOTHING_KNOWN, kept: dict[Path, RunRecord] | None = None) -> Inputs:
    """Return the records and latency files of a results folder; files whose bytes are ``known`` are not parsed.

    If few are parsed, ``kept`` receives their records.
    """
    files = list(paths.all_records())
    few = len(files) <= FEW and kept is not None
    return Inputs(
        records=_entries(files, known.records, partial(_record_entry, kept=kept if few else None)),
        measured=_entries(list(paths.all_latency_files()), known.measured, _latency_entry),
    )


Entry = TypeVar("Entry", RecordEntry, LatencyEntry)


def _entries(files: Sequence[Path], known: Mapping[str, Entry], read: Callable[[Path], Entry]) -> dict[str, Entry]:
    # Their folder, that of the machine, and their own names.
    names = ["/".join(path.parts[-3:]) for path in files]
    entries = {name: known[name] for name, path in zip(names, files, strict=True) if _is(known.get(name), path)}
    changed = [path for name, path in zip(names, files, strict=True) if name not in entries]
    made = [
        entry
        for part in map_chunks(partial(_each, read), changed, cost_bytes=COST_BYTES * len(changed))
        for entry in part
    ]
    entries |= {"/".join(path.parts[-3:]): entry for path, entry in zip(changed, made, strict=True)}
    return {name: entries[name] for name in names}


def _is(entry: RecordEntry | LatencyEntry | None, path: Path) -> bool:
    return entry is not None and not entry.digest.startswith(UNREADABLE) and entry.digest == digest_of(path)


def _record_entry(path: Path, *, kept: dict[Path, RunRecord] | None) -> RecordEntry:
    # The digest first: if the file changes before it is read, the entry has the digest of bytes that are gone.
    digest = digest_of(path)
    try:
        record = read_own_record(path)
    except (ValueError, OSError) as error:
        return RecordEntry(digest=digest, skipped=str(error))
    if kept is not None:
        kept[path] = record
    return RecordEntry(
        digest=digest,
        table=table_key(record),
        run_id=record.run_id,
        train_id=record.train_id,
        onnx_sha256=None if record.outcome is None else record.outcome.artifact.sha256,
    )


def _latency_entry(path: Path) -> LatencyEntry:
    digest = digest_of(path)
    try:
        measured = read_latency_file(path)
    except (ValueError, OSError) as error:
        return LatencyEntry(digest=digest, skipped=str(error))
    return LatencyEntry(digest=digest, run_id=measured.run_id, onnx_sha256=measured.onnx_sha256)


def _each(read: Callable[[Path], Entry], paths: Sequence[Path]) -> list[Entry]:
    return [read(path) for path in paths]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; of one that cannot be read, the number of the error."""
    # Of the bytes, and not the time of change, which copies and clocks change and which is coarser than an edit.
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError as error:
        return f"{UNREADABLE}{error.errno}"


def fingerprint(files: TableFiles, results: Path, known: Mapping[Path, str] = NO_DIGESTS) -> str:
    """Return a digest of the names and the bytes of all files of a table, and of which of them do not exist.

    ``known`` are digests of files that have just been read.
    """
    # Not by ``relative_to``, which takes longer than reading a small file.
    skipped = len(f"{results}{os.sep}")
    every = (*files.records, *files.measured, *files.predictions)
    lines = (f"{str(path)[skipped:]} {known.get(path) or digest_of(path)}\n" for path in every)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()
