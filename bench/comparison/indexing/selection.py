"""Which tables of a results folder a command needs: it reads their files only, and knows of the others by the index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.comparison.analysis import Comparison, compare_or_refuse
from bench.comparison.indexing.file import TableEntry, read_index
from bench.comparison.indexing.inputs import Inputs, TableFiles, fingerprint, inputs_of
from bench.comparison.tables import TableKey
from bench.records.paths import Paths
from bench.records.store import read_files, recounted


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """The tables of a results folder with their files, in order; and what an earlier command made of them."""

    paths: Paths
    inputs: Inputs
    tables: Mapping[TableKey, TableFiles]
    indexed: Mapping[TableKey, TableEntry]

    def naming(self, names: Sequence[str], among: Sequence[TableKey]) -> list[TableKey]:
        """Return the tables in which rows or runs may have one of these names or ids; all if one is in none of them.

        A table that has changed since it was indexed may have any name.
        """
        runs: dict[TableKey, list[str]] = {key: [] for key in among}
        for record in self.inputs.records.values():
            if record.table in runs:
                runs[record.table].append(record.run_id)
        digests = self.inputs.digests(self.paths.results)
        known = {
            key: entry
            for key, entry in self.indexed.items()
            if key in runs and entry.made_from == fingerprint(self.tables[key], self.paths.results, digests)
        }
        found = {
            name: [
                key
                for key, entry in known.items()
                if any(name == row or row_id.startswith(name) for row, row_id in entry.rows)
                or any(run_id.startswith(name) for run_id in runs[key])
            ]
            for name in names
        }
        if not all(found.values()):
            return list(among)
        wanted = {key for keys in found.values() for key in keys}
        return [key for key in among if key in wanted or key not in known]

    def read(self, keys: Sequence[TableKey], machine: str | None = None) -> tuple[list[Comparison], list[str]]:
        """Compare the rows of some tables; also return why others are refused."""
        files = [self.tables[key] for key in keys]
        records = sorted(path for part in files for path in part.records)
        measured = sorted(path for part in files for path in part.measured)
        read = recounted(read_files(self.paths.results, records, measured))
        return compare_or_refuse(read, self.paths.results, machine)


def open_folder(paths: Paths) -> Folder:
    """Return the tables of a results folder; why files are skipped is logged."""
    index = read_index(paths.index)
    inputs = inputs_of(paths, index.inputs)
    inputs.warn(paths.results)
    tables = inputs.tables(paths.results)
    indexed = {entry.key: entry for entry in index.tables if entry.key in tables}
    return Folder(paths=paths, inputs=inputs, tables=tables, indexed=indexed)
