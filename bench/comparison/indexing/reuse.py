"""Make something of each table of a results folder, or take it from the index if none of the table's files changed."""

import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec
import numpy as np

from bench.comparison import analysis
from bench.comparison.agreement import warn_of_excluded
from bench.comparison.analysis import Comparison
from bench.comparison.indexing.file import NO_INDEX, Index, TableEntry, code_version, read_index, write_index
from bench.comparison.indexing.inputs import COST_BYTES, TableFiles, fingerprint, inputs_of
from bench.comparison.tables import TableKey, refusal
from bench.records.paths import Paths
from bench.records.schema import RunRecord
from bench.records.store import Counted, read_files, recounted
from imgcls.parallel import map_chunks

LOGGER = logging.getLogger(__name__)

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables(Generic[Value]):
    """What was made of the tables of a results folder, in their order; the tables that are refused, with the reason.

    ``index`` is None if the index file has all of it.
    """

    values: tuple[Value, ...]
    refused: tuple[tuple[TableKey, str], ...]
    index: Index | None

    def keep(self, paths: Paths) -> None:
        """Write the index file, if it lacks any of this."""
        if self.index is not None:
            write_index(self.index, paths.index)


def tables_of(
    paths: Paths, kind: type[Value], make: Callable[[Comparison], Value], *, use_index: bool = True
) -> Tables[Value]:
    """Return what ``make``, a function of a module, makes of each table; it is called for those that changed.

    ``kind`` is what it returns, a dataclass that msgspec can write. Files that are skipped, runs that are excluded and
    tables that are refused are logged, whether or not they were indexed.
    """
    index = read_index(paths.index) if use_index else NO_INDEX
    kept_records: dict[Path, RunRecord] = {}
    inputs = inputs_of(paths, index.inputs, kept_records)
    inputs.warn(paths.results)
    files, known = inputs.tables(paths.results), {entry.key: entry for entry in index.tables}
    digests = inputs.digests(paths.results)
    prints = {key: fingerprint(own, paths.results, digests) for key, own in files.items()}
    kept = {key: known[key] for key in files if key in known and known[key].made_from == prints[key]}
    stale = [_Stale(key=key, files=files[key], before=prints[key]) for key in files if key not in kept]
    cost = COST_BYTES * sum(len(table.files.records) for table in stale)
    made = map_chunks(partial(_made_all, make, paths.results, kept_records), stale, cost_bytes=cost)
    entries = kept | {entry.key: entry for part in made for entry in part}
    ordered = tuple(entries[key] for key in files)
    for entry in ordered:
        warn_of_excluded(entry.excluded)
    refused = tuple((entry.key, refusal(entry.key, entry.refused)) for entry in ordered if entry.refused is not None)
    for _, reason in refused:
        LOGGER.warning(reason)
    # Not those that changed while they were read.
    settled = tuple(entry for entry in ordered if entry.made_from)
    current = Index(code=code_version(), inputs=inputs, tables=settled)
    return Tables(
        values=tuple(
            msgspec.msgpack.decode(zlib.decompress(entry.value), type=kind) for entry in ordered if entry.value
        ),
        refused=refused,
        index=None if current == index else current,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stale:
    """A table to be made, and the digest of its files before they are read."""

    key: TableKey
    files: TableFiles
    before: str


def _made_all(
    make: Callable[[Comparison], object],
    results: Path,
    known: Mapping[Path, RunRecord],
    tables: Sequence[_Stale],
) -> list[TableEntry]:
    counted: Counted = {}
    return [_made(make, results, known, table, counted) for table in tables]


def _made(
    make: Callable[[Comparison], object],
    results: Path,
    known: Mapping[Path, RunRecord],
    stale: _Stale,
    counted: Counted,
) -> TableEntry:
    files = stale.files
    records = recounted(read_files(results, files.records, files.measured, known), counted)
    tables, excluded = analysis.grouped(records, results)
    # A file that has changed meanwhile may have moved its run to another table, which the next command makes.
    table = next((table for table in tables if table.key == stale.key), None)
    shown = table is not None and not table.refused
    value = b"" if table is None or not shown else _packed(make(analysis.find(table)))
    return TableEntry(
        key=stale.key,
        made_from=stale.before if fingerprint(files, results) == stale.before else "",
        value=value,
        rows=() if table is None else tuple((row.name, row.row_id) for row in table.rows),
        excluded=tuple(excluded),
        refused=None if table is None or shown else len(table.rows),
    )


def _packed(value: object) -> bytes:
    # Field names and pairs repeat themselves: a tenth of the size, and less time than writing and checking the rest.
    return zlib.compress(ENCODER.encode(value), level=1)


def _plain(value: object) -> object:
    """Return a number of numpy as one of Python, which msgpack has."""
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError


ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
