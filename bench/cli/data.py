"""The commands audit and data, which do not load torch."""

from collections import Counter
from typing import Final

import numpy as np
from rich import markup
from rich.console import Console
from rich.table import Table

from bench.cli.arguments import AuditArgs, DataArgs
from bench.cli.parsing import in_flags
from bench.records.paths import Paths, keep_from_data, mark
from bench.render.escaping import visible
from bench.runs.images import audited
from imgcls.config import SPLITS
from imgcls.data.audit import Audit, write_audit
from imgcls.data.groups import grouped
from imgcls.data.sources.registry import DATASETS, INCLUDED, load_dataset
from imgcls.data.splits import class_counts
from imgcls.errors import ConfigError
from imgcls.files import default_cache

SOURCE: Final = "source"
"""Usual name of the column of a table that says where an image comes from."""


def show_audit(args: AuditArgs, console: Console) -> int:
    """Print an audit as tables and write it as JSON."""
    paths = Paths(results=args.results)
    keep_from_data(paths.results, args.folder)
    _, audit = audited(args.folder, paths.cache, labels=args.labels, verify=args.verify)
    # Printed before it is written: a results folder that cannot be written must not cost the result of a long audit.
    console.print(in_flags(audit.summary()), markup=False)
    if args.group_by is not None:
        console.print(_groups_line(audit, args.group_by), markup=False)
    console.print(_class_table(audit))
    if SOURCE in audit.columns:
        console.print(_sources_table(audit))
    for table in _finding_tables(audit):
        console.print(table)
    path = paths.audit(audit.name, audit.digest)
    try:
        write_audit(audit, path)
        mark(paths.results)
    except OSError as error:
        message = f"--results {paths.results}: cannot be written ({error.strerror}); use a writable folder"
        raise ConfigError(message) from error
    console.print(f"written: {path}", markup=False)
    return 0


def _groups_line(audit: Audit, group_by: str) -> str:
    _, sizes = np.unique(grouped(audit, group_by).images.groups, return_counts=True)
    return (
        f"--group-by {group_by}: {len(audit.images):,} images in {len(sizes):,} groups; the largest has "
        f"{sizes.max():,}, {(sizes == 1).sum():,} images are alone"
    )


def escape(name: str) -> str:
    """Return a name as text for the cell of a table, which is always read as markup."""
    # Control characters, too, as the console would write them only after the width of the column was chosen.
    return markup.escape(visible(name))


def _sources_table(audit: Audit) -> Table:
    """Return the number of images of each class by source: a class of one source may be recognised by it."""
    sources = audit.images.values[audit.columns.index(SOURCE)].tolist()
    counts = Counter(zip(sources, audit.images.labels.tolist(), strict=True))
    table = Table("Source", *map(escape, audit.class_names))
    for source in sorted({source for source, _ in counts}):
        table.add_row(
            escape(source) or "(blank)", *(str(counts[source, label]) for label in range(len(audit.class_names)))
        )
    return table


def _class_table(audit: Audit) -> Table:
    """Return the number of images of each class, by split if splits are given."""
    splits = SPLITS if audit.given_splits else ()
    usable = class_counts(audit, range(len(audit.images)))
    by_split = {
        split: class_counts(audit, np.flatnonzero(audit.images.splits == SPLITS.index(split)).tolist())
        for split in splits
    }
    removed = Counter(removal.label for removal in audit.removed)
    table = Table("Class", *splits, "Usable", "Skipped")
    for label, class_name in enumerate(audit.class_names):
        parts = [str(by_split[split][label]) for split in splits]
        table.add_row(escape(class_name), *parts, str(usable[label]), str(removed[label]))
    if removed[None]:
        table.add_row("(no valid label)", *[""] * len(splits), "", str(removed[None]))
    return table


def _finding_tables(audit: Audit) -> list[Table]:
    reasons = Counter((removal.reason, "skipped") for removal in audit.removed)
    for notes, count in zip(audit.images.note_sets, np.bincount(audit.images.notes).tolist(), strict=False):
        reasons.update({(note, "kept"): count for note in notes})
    findings = Table("Found", "Files", "What was done")
    for (reason, done), count in sorted(reasons.items()):
        findings.add_row(escape(reason), str(count), done)
    listed = Table("Skipped", "Reason")
    for removal in audit.removed:
        listed.add_row(escape(removal.image_id), escape(removal.reason))
    groups = Table("Duplicates, kept in one split", "Images")
    for kind, members in (
        ("exact", audit.exact_duplicates),
        ("near", audit.near_duplicates),
        ("near, under two labels", audit.near_conflicts),
        ("across the given splits", audit.across_splits),
    ):
        for group in members:
            groups.add_row(kind, escape(", ".join(group)))
    return [table for table in (findings, listed, groups) if table.row_count]


def show_datasets(args: DataArgs, console: Console) -> int:
    """List the named data sets, or download those in ``args.names``."""
    # All names are checked before the first download.
    if unknown := [name for name in args.names if name.lower() not in DATASETS]:
        message = f"unknown data set {unknown[0]!r}; known: {', '.join(DATASETS)}"
        raise ConfigError(message)
    for name in args.names:
        dataset = load_dataset(name, cache=default_cache())
        console.print(f"{dataset.name}: {len(dataset.files):,} files in {dataset.root}", markup=False)
    if not args.names:
        console.print(f"From scikit-learn: {', '.join(INCLUDED)} (handwritten digits). Downloaded on first use:")
        console.print(", ".join(name for name in DATASETS if name not in INCLUDED))
        console.print("A folder with one subfolder per class, or with train/, val/ and test/, is a data set too,")
        console.print(
            "and so is a table of labels (.csv, .tsv), hf:FOLDER of Hugging Face's datasets, or wds:SHARDS of"
        )
        console.print("WebDataset.")
    return 0
